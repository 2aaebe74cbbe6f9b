from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flipkd_sdk.runtimes.onnx.instruction_sets import instruction_sets

if TYPE_CHECKING:
    from pathlib import Path

X86 = "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni\nbugs\t\t: amx_int8\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [(X86, ("avx2", "avx512f", "avx512_vnni")), (ARM, ("neon", "asimddp", "i8mm")), ("processor : 0\n", ())],
)
def test_the_sets_that_int8_depends_on_are_found(text: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert instruction_sets(tmp_path / "cpuinfo") == expected


def test_without_the_file_nothing_is_claimed(tmp_path: Path) -> None:
    assert instruction_sets(tmp_path / "cpuinfo") == ()
