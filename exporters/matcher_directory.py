"""Writing a matcher directory: in a working directory beside it, which takes its name when all is proved."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flipkd_sdk import __version__
from flipkd_sdk.errors import OutputExistsError
from flipkd_sdk.exporters.model_card import model_card
from flipkd_sdk.manifest import MANIFEST_FILE, EncoderSpec, Manifest, TokenizerSpec, sha256_of
from flipkd_sdk.training.student import empty_token_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.training.run_directory import FinishedRun


def check_output(out: Path, *, overwrite: bool) -> None:
    """Refuse an output that must not be replaced.

    Raises:
        OutputExistsError: something is there and may not, or must not, be overwritten.
    """
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        raise OutputExistsError(f"{out}: already there; choose another --out or pass --overwrite")
    if out.is_symlink() or not (out / MANIFEST_FILE).is_file():
        raise OutputExistsError(f"{out}: not a matcher directory, so --overwrite does not touch it")


@contextlib.contextmanager
def publishing(out: Path) -> Iterator[Path]:
    """A working directory that becomes ``out`` when the block ends well, and vanishes when it does not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield working
        working.chmod(0o755)
        if out.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
            out.rename(retired / out.name)
            working.rename(out)
            shutil.rmtree(retired)
        else:
            working.rename(out)
    finally:
        shutil.rmtree(working, ignore_errors=True)


def describe(run: FinishedRun, tokenizer: PreTrainedTokenizerBase, dimension: int, working: Path) -> Manifest:
    """Write ``tokenizer.json`` and say all of the manifest that is known before there is a variant."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    file = working / "tokenizer.json"
    backend.save(str(file), pretty=False)
    student = run.config.student
    return Manifest(
        sdk_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        student=run.result.student,
        teacher=run.result.teacher,
        encoder=EncoderSpec(student.layer, student.module, student.pooling, student.attention, dimension),
        tokenizer=TokenizerSpec(
            file=file.name,
            sha256=sha256_of(file),
            bytes=file.stat().st_size,
            max_length=student.max_length,
            empty_token_id=empty_token_id(tokenizer),
            special_tokens=tuple(tokenizer.convert_ids_to_tokens(tokenizer("")["input_ids"])),
        ),
        variants={},
        calibration=run.result.calibration,
        metrics={},
    )


def write_manifest(working: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` and the model card that follows from it."""
    (working / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    (working / "README.md").write_text(model_card(manifest), encoding="utf-8")
