"""Distinct texts → unit vectors: tokenize, plan batches, run.

Tokenizing takes a hundredth of the time and onnxruntime uses all CPUs, so running both at once would gain little.
"""

from __future__ import annotations

import functools
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from flipkd_sdk.errors import TextTooLongError
from flipkd_sdk.runtimes.encoding.batching import plan_batches
from flipkd_sdk.runtimes.encoding.text_tokens import TextTokens
from flipkd_sdk.runtimes.encoding.vector_cache import CachedVector, VectorCache
from flipkd_sdk.runtimes.onnx import malloc_trim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts
    from flipkd_sdk.runtimes.encoding.tokenizer import TextTokenizer, TokenIds
    from flipkd_sdk.runtimes.onnx.session import EncoderSession

    Progress = Callable[[int, int], None]

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
    tokens: list[TextTokens] | None = None
    """Tokens of each text, for the pair head; None if they were not asked for."""


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

    def encode(
        self,
        distinct: DistinctTexts,
        *,
        max_rows: int | None = None,
        with_tokens: bool = False,
        cache: VectorCache | None = None,
        progress: Progress | None = None,
    ) -> Encoded:
        """Return the vectors of ``distinct.texts``, in that order.

        Args:
            distinct: the texts.
            max_rows: most texts of one run.
            with_tokens: return the tokens too, for a pair head.
            cache: used where the encoder has none of its own.
            progress: called after each batch with the texts done and their number; may raise to stop.

        Raises:
            TextTooLongError: a text is too long and ``refuse_long`` is set.
            ExecutionError: the model could not be run.
        """
        texts = distinct.texts
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        tokens_of: list[TextTokens | None] = [None] * len(texts)
        cache = self._cache if self._cache is not None else cache
        pending, cut = _fill_from_cache(cache, texts, vectors, tokens_of if with_tokens else None)
        done = len(texts) - len(pending)
        for window in _chunks(pending, _WINDOW):
            tokens = self._tokenize([texts[i] for i in window])
            cut_texts = [i for i, text_ids in zip(window, tokens, strict=True) if text_ids.was_cut]
            if cut_texts and self._refuse_long:
                raise TextTooLongError(
                    f"{distinct.name_of(cut_texts[0])}: longer than the {self.tokenizer.max_length} tokens that this "
                    "matcher reads; shorten it, or load with on_truncate='warn'"
                )
            cut += len(cut_texts)
            report = None if progress is None else functools.partial(_report, progress, done, len(texts))
            run = self._run(tokens, max_rows=max_rows, with_tokens=with_tokens, report=report)
            vectors[window], token_vectors = run
            done += len(window)
            for i, text_ids, own in zip(window, tokens, token_vectors, strict=False):
                tokens_of[i] = TextTokens(text_ids.ids, own)
            if cache is not None:
                # The cache keeps whole texts, so huge ones would fill the memory.
                cache.put(
                    (texts[i], CachedVector(vectors[i].copy(), text_ids.was_cut, tokens_of[i]))
                    for i, text_ids in zip(window, tokens, strict=True)
                    if not self.tokenizer.is_huge(texts[i])
                )
        if len(pending) >= _MANY:
            malloc_trim.trim()
        return Encoded(vectors, cut, [own for own in tokens_of if own is not None] if with_tokens else None)

    def encode_tokens(self, tokens: Sequence[TokenIds], *, max_rows: int | None = None) -> NDArray[np.float32]:
        """Return the unit vectors of tokenized texts, in that order, shape (n, d).

        Raises:
            ExecutionError: the model could not be run.
        """
        return self._run(tokens, max_rows=max_rows)[0]

    def encode_with_tokens(
        self, tokens: Sequence[TokenIds], *, with_tokens: bool, max_rows: int | None = None
    ) -> Encoded:
        """Return the unit vectors of tokenized texts, and on request their tokens, for a pair head.

        Raises:
            ExecutionError: the model could not be run.
        """
        vectors, own = self._run(tokens, max_rows=max_rows, with_tokens=with_tokens)
        together = zip(tokens, own, strict=False)
        return Encoded(vectors, 0, [TextTokens(text.ids, values) for text, values in together] if with_tokens else None)

    def _run(
        self,
        tokens: Sequence[TokenIds],
        *,
        max_rows: int | None = None,
        with_tokens: bool = False,
        report: Callable[[int], None] | None = None,
    ) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        vectors = np.empty((len(tokens), self.dimension), dtype=np.float32)
        token_vectors: list[NDArray[np.float32]] = [vectors[:0]] * len(tokens) if with_tokens else []
        batches = plan_batches(
            [len(text.ids) for text in tokens],
            max_length=self.tokenizer.max_length,
            max_tokens=self._max_batch_tokens,
            max_rows=max_rows,
        )
        done = 0
        for batch in batches:
            if report is not None and done:
                report(done)
            done += len(batch.rows)
            ids, mask = pad([tokens[row].ids for row in batch.rows], batch.width, self.tokenizer.padding_id)
            if not with_tokens:
                vectors[batch.rows] = self.session.run(ids, mask)
                continue
            vectors[batch.rows], padded = self.session.run_with_tokens(ids, mask)
            for row, own in zip(batch.rows, padded, strict=True):
                # Copied, so that the padding is freed.
                token_vectors[row] = own[: len(tokens[row].ids)].copy()
        if report is not None:
            report(done)
        return vectors, token_vectors

    def _tokenize(self, texts: Sequence[str]) -> list[TokenIds]:
        return [ids for chunk in _chunks(texts, _TOKENIZER_CHUNK) for ids in self.tokenizer.encode(chunk)]


def _report(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _fill_from_cache(
    cache: VectorCache | None,
    texts: Sequence[str],
    vectors: NDArray[np.float32],
    tokens: list[TextTokens | None] | None,
) -> tuple[Sequence[int], int]:
    """Fill in cached vectors, and cached tokens if a list is given.

    Returns:
        The indices of the other texts, and how many of the cached ones were cut.
    """
    if cache is None:
        return range(len(texts)), 0
    pending: list[int] = []
    cut = 0
    for i, entry in enumerate(cache.get(texts)):
        if entry is None or (tokens is not None and entry.tokens is None):
            pending.append(i)
            continue
        vectors[i] = entry.vector
        cut += entry.was_cut
        if tokens is not None:
            tokens[i] = entry.tokens
    return pending, cut


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
