"""Distinct texts → unit vectors: tokenize, plan batches, run.

Tokenizing takes a hundredth of the time and onnxruntime uses all CPUs, so running both at once would gain little.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from flipkd_sdk.errors import TextTooLongError
from flipkd_sdk.runtimes.encoding.batching import plan_batches
from flipkd_sdk.runtimes.encoding.vector_cache import CachedVector, VectorCache
from flipkd_sdk.runtimes.onnx import malloc_trim

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts
    from flipkd_sdk.runtimes.encoding.tokenizer import TextTokenizer, TokenIds
    from flipkd_sdk.runtimes.onnx.session import EncoderSession

T = TypeVar("T")

_WINDOW = 8192
"""Texts per plan: enough to fill the batches of every padded length, few enough to keep in memory."""
_TOKENIZER_CHUNK = 512
"""Texts tokenized at a time: tokenizers keeps some hundred bytes for each token until the ids are copied."""

_MANY = 1000
"""Texts after which freed memory is returned; its time is negligible then."""


class Encoded(NamedTuple):
    """Result for the distinct texts of one call."""

    vectors: NDArray[np.float32]
    """Unit vectors, shape (distinct, d)."""
    cut: int
    """Number of texts longer than ``max_length``."""


class TextEncoder:
    """A tokenizer and a session; safe to share between threads.

    Args:
        tokenizer: the tokenizer.
        session: the session.
        dimension: length of the vectors.
        max_batch_tokens: most tokens of one run, padding included.
        cache: vectors kept between calls, except those of huge texts; none by default.
        refuse_long: raise for a text longer than ``max_length`` instead of truncating it.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        session: EncoderSession,
        *,
        dimension: int,
        max_batch_tokens: int,
        cache: VectorCache | None = None,
        refuse_long: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.session = session
        self.dimension = dimension
        self._max_batch_tokens = max_batch_tokens
        self._cache = cache
        self._refuse_long = refuse_long

    def encode(self, distinct: DistinctTexts, *, max_rows: int | None = None) -> Encoded:
        """Return the vectors of ``distinct.texts``, in that order.

        Args:
            distinct: the texts.
            max_rows: most texts of one run.

        Raises:
            TextTooLongError: a text is too long and ``refuse_long`` is set.
            ExecutionError: the model could not be run.
        """
        texts = distinct.texts
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        pending, cut = self._fill_from_cache(texts, vectors)
        for window in _chunks(pending, _WINDOW):
            tokens = self._tokenize([texts[i] for i in window])
            cut_texts = [i for i, text_ids in zip(window, tokens, strict=True) if text_ids.was_cut]
            if cut_texts and self._refuse_long:
                raise TextTooLongError(
                    f"{distinct.name_of(cut_texts[0])}: longer than the {self.tokenizer.max_length} tokens that this "
                    "matcher reads; shorten it, or load with on_truncate='warn'"
                )
            cut += len(cut_texts)
            vectors[window] = self.encode_tokens(tokens, max_rows=max_rows)
            if self._cache is not None:
                # The cache keeps whole texts, so huge ones would fill the memory.
                self._cache.put(
                    (texts[i], CachedVector(vectors[i].copy(), text_ids.was_cut))
                    for i, text_ids in zip(window, tokens, strict=True)
                    if not self.tokenizer.is_huge(texts[i])
                )
        if len(pending) >= _MANY:
            malloc_trim.trim()
        return Encoded(vectors, cut)

    def encode_tokens(self, tokens: Sequence[TokenIds], *, max_rows: int | None = None) -> NDArray[np.float32]:
        """Return the unit vectors of tokenized texts, in that order, shape (n, d).

        Raises:
            ExecutionError: the model could not be run.
        """
        vectors = np.empty((len(tokens), self.dimension), dtype=np.float32)
        batches = plan_batches(
            [len(text.ids) for text in tokens],
            max_length=self.tokenizer.max_length,
            max_tokens=self._max_batch_tokens,
            max_rows=max_rows,
        )
        for batch in batches:
            ids, mask = pad([tokens[row].ids for row in batch.rows], batch.width, self.tokenizer.padding_id)
            vectors[batch.rows] = self.session.run(ids, mask)
        return vectors

    def _fill_from_cache(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> tuple[Sequence[int], int]:
        """Fill in cached vectors; return the indices of the other texts, and how many of the cached ones were cut."""
        if self._cache is None:
            return range(len(texts)), 0
        pending: list[int] = []
        cut = 0
        for i, entry in enumerate(self._cache.get(texts)):
            if entry is None:
                pending.append(i)
            else:
                vectors[i] = entry.vector
                cut += entry.was_cut
        return pending, cut

    def _tokenize(self, texts: Sequence[str]) -> list[TokenIds]:
        return [ids for chunk in _chunks(texts, _TOKENIZER_CHUNK) for ids in self.tokenizer.encode(chunk)]


def pad(
    texts: Sequence[NDArray[np.uint32]], width: int, padding_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return token ids and attention mask of a batch, padded at the end, both of shape (batch, ``width``)."""
    lengths = np.array([len(ids) for ids in texts])
    real = np.arange(width) < lengths[:, None]
    padded = np.full(real.shape, padding_id, dtype=np.int64)
    padded[real] = np.concatenate(texts)
    return padded, real.astype(np.int64)


def _chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk
