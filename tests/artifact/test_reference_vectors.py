from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipkd_sdk.artifact.reference_vectors import MAX_BYTES, SelfTest, draw_sample, read_self_test, write_self_test
from flipkd_sdk.errors import MatcherDirectoryError

if TYPE_CHECKING:
    from collections.abc import Callable

V2 = Path(__file__).parent / "fixtures" / "self_test_v2.json"


def read(path: Path) -> SelfTest:
    return read_self_test(path, dimension=2, max_length=3)


def test_the_first_format_stays_readable() -> None:
    self_test = read(V2)
    assert self_test.token_ids == ((3,), (17, 5), (2, 2, 9))
    np.testing.assert_allclose(self_test.vectors["fp32"], [[1, 0], [0.6, 0.8], [0, -1]], atol=5e-4)
    np.testing.assert_array_equal(self_test.vectors["int8"], self_test.vectors["fp32"][::-1])


def test_what_is_written_is_read_and_moves_no_vector_by_more_than_is_said(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    write_self_test(tmp_path / "s.json", SelfTest(((1,), (2, 3), (4,)), {"int8": vectors}))
    found = read(tmp_path / "s.json")
    assert found.token_ids == ((1,), (2, 3), (4,))
    assert 0 < np.linalg.norm(found.vectors["int8"] - vectors, axis=1).max() < 5e-4


@given(st.sets(st.integers(0, 1 << 20), min_size=1, max_size=99).map(sorted), st.integers(1, 20))
def test_a_sample_is_of_the_vocabulary_and_the_same_again(vocabulary: list[int], max_length: int) -> None:
    texts = draw_sample(vocabulary, max_length=max_length)
    assert texts == draw_sample(vocabulary, max_length=max_length)
    assert {token for text in texts for token in text} <= set(vocabulary)
    assert max(map(len, texts)) == min(8, max_length)
    assert all(type(token) is int for text in texts for token in text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {**c, "more": 1}, "unknown key 'more'"),
        (lambda c: {"token_ids": c["token_ids"]}, "key 'vectors' is missing"),
        (lambda c: {**c, "token_ids": [[3], [17, 5]]}, "3 fp32 vectors for 2 texts"),
        (lambda c: {**c, "token_ids": [[3], [17, 5], []]}, "at least two texts of 1 to 3 token ids"),
        (lambda c: {**c, "token_ids": [[3], [17, 5], [1, 1, 1, 1]]}, "at least two texts of 1 to 3 token ids"),
        (lambda c: {**c, "token_ids": [[3], [17, 5], [-1]]}, "at least two texts of 1 to 3 token ids"),
        (lambda c: {**c, "token_ids": [[3], [17, 5], [1 << 32]]}, "at least two texts of 1 to 3 token ids"),
        (lambda c: {**c, "token_ids": [[3], [17, 5], [1.5]]}, "expected int, found float"),
        (lambda c: {**c, "vectors": {"int8": "a\u00e9=="}}, "not a self-test"),
        (lambda c: {**c, "vectors": {"int8": "not base64"}}, "vectors that are not base64"),
        (lambda c: {**c, "vectors": {"int8": "AAA="}}, "vectors that are not finite float16 of 2 dimensions"),
        (lambda c: {**c, "vectors": {"int8": "AAAA"}}, "not a self-test"),
        (lambda c: {**c, "vectors": {"int8": "AHwAfAB8AHwAfAB8"}}, "vectors that are not finite float16"),
    ],
)
def test_another_content_is_refused(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    path = tmp_path / "self_test.json"
    path.write_text(json.dumps(change(json.loads(V2.read_text()))))
    with pytest.raises(MatcherDirectoryError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b" " * (MAX_BYTES + 1)])
def test_what_is_no_self_test_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.json").write_bytes(content)
    with pytest.raises(MatcherDirectoryError, match=r"s\.json: .*self-test"):
        read(tmp_path / "s.json")
