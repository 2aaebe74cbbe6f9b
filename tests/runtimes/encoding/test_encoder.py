from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import TEXTS, tiny_tokenizer

from flipkd_sdk.errors import TextTooLongError
from flipkd_sdk.runtimes.encoding import encoder
from flipkd_sdk.runtimes.encoding.batching import Batch, plan_batches
from flipkd_sdk.runtimes.encoding.encoder import TextEncoder, pad
from flipkd_sdk.runtimes.encoding.inputs import distinct_texts
from flipkd_sdk.runtimes.encoding.tokenizer import TextTokenizer, TokenIds
from flipkd_sdk.runtimes.encoding.vector_cache import VectorCache

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TOKENIZER = TextTokenizer(tiny_tokenizer(), max_length=32, empty_token_id=2)


class Recorder:
    """A session whose vector of a text is made of its tokens, so that a mix-up shows."""

    device = "cpu"

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        self.shapes.append(ids.shape)
        return np.stack([(ids * mask).sum(axis=1), mask.sum(axis=1)], axis=1).astype(np.float32)

    @property
    def rows(self) -> int:
        return sum(rows for rows, _ in self.shapes)


def make(session: Recorder, **options: object) -> TextEncoder:
    defaults = {"dimension": 2, "max_batch_tokens": 64}
    return TextEncoder(TOKENIZER, session, **{**defaults, **options})  # type: ignore[arg-type]


def expected(texts: list[str]) -> NDArray[np.float32]:
    tokens = [found.ids for found in TOKENIZER.encode(texts)]
    return np.array([[ids.sum(), len(ids)] for ids in tokens], dtype=np.float32).reshape(-1, 2)


@given(st.lists(st.text(max_size=40), max_size=30), st.integers(1, 100), st.sampled_from([0, 1, 5, 100]))
def test_every_text_gets_its_own_vector(texts: list[str], max_batch_tokens: int, cache_size: int) -> None:
    cache = VectorCache(cache_size) if cache_size else None
    made = make(Recorder(), max_batch_tokens=max_batch_tokens, cache=cache)
    distinct = distinct_texts(texts)
    for _ in range(2):
        np.testing.assert_array_equal(made.encode(distinct).vectors, expected(distinct.texts))


def test_windows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_WINDOW", 3)
    monkeypatch.setattr(encoder, "_TOKENIZER_CHUNK", 2)
    encoded = make(Recorder()).encode(distinct_texts(TEXTS))
    np.testing.assert_array_equal(encoded.vectors, expected(list(TEXTS)))
    assert encoded.cut == 1


def test_only_a_window_of_tokens_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks, planned = [], []

    def encode(texts: Sequence[str]) -> list[TokenIds]:
        chunks.append(len(texts))
        return TextTokenizer.encode(TOKENIZER, texts)

    def plan(lengths: Sequence[int], **limits: Any) -> list[Batch]:
        planned.append(len(lengths))
        return plan_batches(lengths, **limits)

    monkeypatch.setattr(TOKENIZER, "encode", encode)
    monkeypatch.setattr(encoder, "plan_batches", plan)
    make(Recorder()).encode(distinct_texts(map(str, range(20_000))))
    assert sum(chunks) == sum(planned) == 20_000
    assert max(chunks) <= 1_000
    assert max(planned) <= 10_000


def test_the_cache_keeps_nothing_but_its_vectors() -> None:
    cache = VectorCache(1)
    make(Recorder(), cache=cache).encode(distinct_texts(TEXTS))
    (kept,) = cache.get([TEXTS[-1]])
    assert kept is not None
    assert kept.vector.base is None


def test_the_cache_keeps_no_huge_text() -> None:
    cache = VectorCache(10)
    made = make(Recorder(), cache=cache)
    texts = ["short", "word " * 1_000_000]
    for _ in range(2):
        np.testing.assert_array_equal(made.encode(distinct_texts(texts)).vectors, expected(texts))
    assert [entry is not None for entry in cache.get(texts)] == [True, False]


def test_runs_stay_within_the_limits() -> None:
    session = Recorder()
    made = make(session)
    made.encode(distinct_texts(f"text {i}" for i in range(100)))
    assert all(rows * width <= 64 for rows, width in session.shapes)
    session.shapes.clear()
    made.encode(distinct_texts(f"text {i}" for i in range(100)), max_rows=2)
    assert max(rows for rows, _ in session.shapes) == 2


def test_the_cache_spares_runs_and_remembers_cuts() -> None:
    session = Recorder()
    made = make(session, cache=VectorCache(100))
    assert made.encode(distinct_texts(TEXTS)).cut == 1
    assert session.rows == len(TEXTS)
    assert made.encode(distinct_texts([*TEXTS, "a new one"])).cut == 1
    assert session.rows == len(TEXTS) + 1


def test_without_a_cache_nothing_is_kept() -> None:
    session = Recorder()
    made = make(session)
    for _ in range(2):
        made.encode(distinct_texts(TEXTS))
    assert session.rows == 2 * len(TEXTS)


def test_a_refused_text_is_named_by_where_it_first_stood() -> None:
    session = Recorder()
    made = make(session, refuse_long=True)
    with pytest.raises(TextTooLongError, match=r"^text 2: longer than the 32 tokens .* reads; shorten it"):
        made.encode(distinct_texts(["a", "a", TEXTS[-1], "b", TEXTS[-1]]))
    assert session.shapes == []


def test_padding_is_at_the_end_and_masked() -> None:
    ids, mask = pad([np.array([5, 6, 7], dtype=np.int32), np.array([8], dtype=np.int32)], 4, padding_id=2)
    assert ids.tolist() == [[5, 6, 7, 2], [8, 2, 2, 2]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert ids.dtype == mask.dtype == np.int64


def test_an_empty_call_is_no_run(tmp_path: Path) -> None:
    session = Recorder()
    assert make(session).encode(distinct_texts([])).vectors.shape == (0, 2)
    assert session.shapes == []
