"""`Matcher`: scores how likely two texts mean the same."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from flipkd_sdk.errors import ConfigError, MatcherClosedError
from flipkd_sdk.evaluation.cosines import matrix_blocks, pair_cosines
from flipkd_sdk.runtimes.encoding.inputs import (
    DistinctTexts,
    distinct_of_pair,
    distinct_of_pairs,
    distinct_of_two,
    distinct_texts,
    several,
)
from flipkd_sdk.runtimes.encoding.vector_cache import VectorCache
from flipkd_sdk.runtimes.load import LoadOptions, OpenMatcher, open_matcher
from flipkd_sdk.runtimes.options import check_integer, check_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from flipkd_sdk.artifact.manifest import Manifest
    from flipkd_sdk.evaluation.calibration import Calibration
    from flipkd_sdk.runtimes.encoding.encoder import Encoded
    from flipkd_sdk.runtimes.search.candidates import CandidateSet, Match

_logger = logging.getLogger("flipkd_sdk")

_CACHED_CANDIDATES = 1024
"""Candidates whose tokens are kept for the pair head: some ten megabytes of short texts."""


class Matcher:
    """Scores how likely two texts mean the same; made by `Matcher.load`.

    A pair has the same score (within 1e-6) in any batch and order, from any thread or process, with any number of
    threads. Any number of threads may share one matcher. Pickling a matcher stores its path, and unpickling opens it
    again. A forked child opens it again when it first uses it.

    Example:
        >>> with Matcher.load("faq-matcher") as matcher:
        ...     matcher.score("How do I reset my PIN?", "I forgot my PIN, what now?")
        0.93
    """

    def __init__(self, directory: Path, options: LoadOptions | None = None, expected: Manifest | None = None) -> None:
        if not isinstance(options, LoadOptions):
            raise ConfigError("Matcher(...) opens nothing; use Matcher.load(directory, ...)")
        self._directory = directory
        self._options = options
        self._opened: OpenMatcher | None = open_matcher(directory, options, expected)
        self.manifest: Manifest = self._opened.manifest
        """Content of ``manifest.json``: the matcher's sources, its calibration and its measured quality."""
        self._truncated_texts = 0
        self._blank_texts = 0
        self._counting = threading.Lock()
        self._candidate_cache: VectorCache | None = None

    @classmethod
    def load(
        cls,
        directory: str | Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        max_batch_tokens: int | None = None,
        gpu_mem_limit: int | None = None,
        cache_size: int = 0,
        on_truncate: Literal["warn", "error", "ignore"] = "warn",
        on_blank: Literal["zero", "score"] = "zero",
        head: bool = True,
    ) -> Self:
        """Open a matcher directory made by ``flipkd export``.

        Args:
            directory: the matcher directory.
            device: ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"auto"``. ``"auto"`` uses CUDA if the installed onnxruntime
                supports it. If CUDA then does not start, it uses the CPU and logs one warning.
            precision: a variant: ``"fp32"``, ``"fp16"``, ``"int8"``, ``"int4"`` or ``"auto"``. ``"auto"`` takes the
                first available of int8, fp32, int4, fp16 on the CPU and of fp16, fp32, int8, int4 on CUDA.
            threads: CPU threads of one run; None for as many as the CPU affinity and the cgroup quota allow.
            max_batch_tokens: largest number of tokens in one run, padding included. It bounds memory and moves no
                score. None for 512 on the CPU and 16,384 on CUDA.
            gpu_mem_limit: largest number of bytes in onnxruntime's arena on CUDA; None for no limit.
            cache_size: number of texts whose vectors are kept between calls; 0 for none.
            on_truncate: action for a text longer than the matcher reads: ``"warn"`` cuts it and logs a warning with
                their number, ``"error"`` raises, ``"ignore"`` cuts it silently.
            on_blank: score of a pair with a blank text, that is an empty one or white space alone: ``"zero"`` for 0.0,
                so that it is no match, ``"score"`` for the score of the model.
            head: score pairs with the pair head, if the directory has one; False for the probability of the cosine.

        Raises:
            MatcherDirectoryError: a file is missing, changed, foreign or malformed, or the precision is not available.
            UnsupportedFormatError: the directory was made by a newer release.
            ExecutionError: onnxruntime is missing, or the requested device is not the one that would run.
            SelfTestError: the CPU has other instruction sets than the one that verified the variant, and the variant
                returns other vectors here; tested once per process.
            ConfigError: an argument has an invalid value.
        """
        check_path("directory", directory)
        options = LoadOptions(
            device=device,
            precision=precision,
            threads=threads,
            max_batch_tokens=max_batch_tokens,
            gpu_mem_limit=gpu_mem_limit,
            cache_size=cache_size,
            on_truncate=on_truncate,
            on_blank=on_blank,
            head=head,
        )
        # Absolute and without links, so that another process opens the same directory.
        return cls(Path(directory).resolve(), options)

    def score(self, a: str, b: str) -> float:
        """Return the match probability of two texts, in [0, 1]; ``score(a, b)`` and ``score(b, a)`` agree.

        Raises:
            InvalidTextError: a text is not a str.
            TextTooLongError: a text is too long and ``on_truncate="error"``.
            MatcherClosedError: after `close`.
        """
        return float(self._score_pairs(distinct_of_pair(a, b))[0])

    def score_pairs(self, pairs: Iterable[tuple[str, str]], *, batch_size: int | None = None) -> NDArray[np.float32]:
        """Return the match probability of each pair, in order; each distinct text is encoded once.

        Args:
            pairs: any iterable of two texts each, also a generator.
            batch_size: largest number of texts in one run, beside ``max_batch_tokens``; moves no score.

        Returns:
            Shape (n,).

        Raises:
            InvalidTextError: an element is not a pair of two str; the message names it.
            TextTooLongError: a text is too long and ``on_truncate="error"``.
            ConfigError: ``batch_size`` is invalid.
            MatcherClosedError: after `close`.
        """
        check_integer("batch_size", batch_size, none="for no limit")
        return self._score_pairs(distinct_of_pairs(pairs), batch_size)

    def score_matrix(self, a_texts: Iterable[str], b_texts: Iterable[str]) -> NDArray[np.float32]:
        """Return the match probability of every text of ``a_texts`` with every text of ``b_texts``, by their cosines.

        The pair head reads pairs one by one, so it takes no part: a matrix proposes, and `score_pairs` decides.

        Returns:
            Shape (n, m).

        Raises:
            InvalidTextError: an element is not a str; the message names it.
            TextTooLongError: a text is too long and ``on_truncate="error"``.
            MatcherClosedError: after `close`.
        """
        distinct, count = distinct_of_two(
            several(a_texts, "a_texts"),
            several(b_texts, "b_texts"),
            "a_texts, text {}".format,
            "b_texts, text {}".format,
        )
        vectors, never = self.encode_distinct(distinct), self.never_match(distinct.texts)
        rows, columns = distinct.index[:count], distinct.index[count:]
        scores = np.empty((len(rows), len(columns)), dtype=np.float32)
        for row_block, column_block, cosines in matrix_blocks(vectors[rows], vectors[columns]):
            scores[row_block, column_block] = self.calibration.probability(cosines)
        scores[never[rows]] = 0.0
        scores[:, never[columns]] = 0.0
        return scores

    def is_match(self, a: str, b: str) -> bool:
        """Return True if the score of two texts is at least `threshold`; raise the errors of `score`."""
        return self.score(a, b) >= self.threshold

    def rank(
        self,
        query: str,
        candidates: Iterable[str] | CandidateSet,
        *,
        top_k: int | None = 10,
        score_cutoff: float | None = None,
        rescore: int = 10,
    ) -> list[Match]:
        """Return the candidates that match a query best, best first and equal ones in the order given.

        With a pair head, the cosine proposes candidates and the head decides on the best of them, which are all that
        is returned. Candidates that are searched more than once are better encoded once, by `candidates`.

        Args:
            query: the text to match.
            candidates: the texts to choose from.
            top_k: largest number of matches; None for all.
            score_cutoff: smallest score of a match; None for any.
            rescore: number of candidates that the pair head decides on, at least ``top_k``; 0 ranks by the cosine.

        Raises:
            InvalidTextError: a text is not a str; the message names it.
            TextTooLongError: a text is too long and ``on_truncate="error"``.
            ConfigError: ``top_k``, ``score_cutoff`` or ``rescore`` is invalid.
            MatcherClosedError: after `close`.
        """
        from flipkd_sdk.runtimes.search.candidates import CandidateSet, decide
        from flipkd_sdk.runtimes.search.exact import Ranking, Vectors, search

        if isinstance(candidates, CandidateSet):
            return candidates.rank(query, top_k=top_k, score_cutoff=score_cutoff, rescore=rescore)
        ranking = Ranking(self.calibration, top_k, score_cutoff, rescore if self.has_head else 0)
        distinct, _ = distinct_of_two(
            [query], several(candidates, "candidates"), lambda _: "query", "candidate {}".format
        )
        encoded = Vectors(self.encode_distinct(distinct), self.never_match(distinct.texts))
        (found,) = search(encoded[:1], encoded.take(distinct.index[1:]), ranking.proposing)
        return decide(self, query, found, [distinct.texts[index] for index in distinct.index[1:]], ranking)

    def candidates(self, texts: Iterable[str]) -> CandidateSet:
        """Encode texts once, to rank them for many queries.

        Raises:
            InvalidTextError: an element is not a str; the message names it.
            TextTooLongError: a text is too long and ``on_truncate="error"``.
            MatcherClosedError: after `close`.
        """
        # A program that only scores pairs need not import the search.
        from flipkd_sdk.runtimes.search.candidates import CandidateSet

        distinct = distinct_texts(several(texts, "texts"))
        vectors = self.encode_distinct(distinct)[distinct.index]
        return CandidateSet(self, [distinct.texts[index] for index in distinct.index], vectors)

    def encode(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Return unit vectors of texts, in order; the cosine of two of them is their dot product.

        Returns:
            Shape (n, d).

        Raises:
            InvalidTextError: an element is not a str; the message names it.
            TextTooLongError: a text is too long and ``on_truncate="error"``.
            MatcherClosedError: after `close`.
        """
        distinct = distinct_texts(several(texts, "texts"))
        return self.encode_distinct(distinct)[distinct.index]

    @property
    def threshold(self) -> float:
        """Return the score from which on a pair is a match."""
        return self.pair_calibration.threshold

    @property
    def calibration(self) -> Calibration:
        """Return the map from cosines to match probabilities, with its threshold."""
        return self.manifest.calibration

    @property
    def pair_calibration(self) -> Calibration:
        """Return the calibration that `score` uses: the pair head's, or without one the cosine's."""
        return self.manifest.pair_calibration if self._options.head else self.manifest.calibration

    @property
    def has_head(self) -> bool:
        """Return True if a pair head decides on pairs."""
        return self._options.head and self.manifest.head is not None

    @property
    def dimension(self) -> int:
        """Return the dimension of the vectors."""
        return self.manifest.encoder.dimension

    @property
    def device(self) -> str:
        """Return the device that runs: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``."""
        return self._require_open().device

    @property
    def precision(self) -> str:
        """Return the variant in use, such as ``"int8"``."""
        return self._require_open().precision

    @property
    def truncated_texts(self) -> int:
        """Return the number of texts cut so far, each counted once in every call that contains it."""
        return self._truncated_texts

    @property
    def blank_texts(self) -> int:
        """Return the number of blank texts so far, each counted once in every call that contains it."""
        return self._blank_texts

    @property
    def identity(self) -> str:
        """Return a hash of everything that vectors depend on: the model, the tokenizer and the way of computing.

        Vectors of matchers with the same identity can be compared. The calibration is no part of it.
        """
        import hashlib

        from flipkd_sdk.artifact.manifest import SCORING_VERSION

        tokenizer, variant = self.manifest.tokenizer, self.manifest.variant(self.precision)
        parts = (variant.sha256, tokenizer.sha256, tokenizer.max_length, tokenizer.empty_token_id, SCORING_VERSION)
        return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()

    def close(self) -> None:
        """Release the model; calls still running in other threads finish. Closing twice is harmless."""
        self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        opened = self._opened
        state = "closed" if opened is None else f"device={opened.device!r}, precision={opened.precision!r}"
        return f"<Matcher {str(self._directory)!r}, {state}>"

    def __reduce__(self) -> tuple[type[Self], tuple[Path, LoadOptions, Manifest]]:
        self._require_open()
        return type(self), (self._directory, self._options, self.manifest)

    def _score_pairs(self, distinct: DistinctTexts, batch_size: int | None = None) -> NDArray[np.float32]:
        encoded = self.encode_pairs(distinct, batch_size)
        return self.pair_scores(distinct.texts, encoded, distinct.index[0::2], distinct.index[1::2])

    def encode_distinct(self, distinct: DistinctTexts, batch_size: int | None = None) -> NDArray[np.float32]:
        """Return unit vectors of ``distinct.texts``, shape (distinct, d), and count; raise the errors of `encode`.

        For code that joins calls or keeps vectors, such as `MicroBatcher` and `CandidateSet`.
        """
        return self._encode(distinct, batch_size).vectors

    def encode_pairs(self, distinct: DistinctTexts, batch_size: int | None = None) -> Encoded:
        """Return vectors of ``distinct.texts``, and with a pair head their tokens, for `pair_scores`."""
        return self._encode(distinct, batch_size, with_tokens=self.has_head)

    def _encode(
        self,
        distinct: DistinctTexts,
        batch_size: int | None = None,
        *,
        with_tokens: bool = False,
        cache: VectorCache | None = None,
    ) -> Encoded:
        encoder = self._require_open().encoder
        encoded = encoder.encode(distinct, max_rows=batch_size, with_tokens=with_tokens, cache=cache)
        blank = sum(map(_is_blank, distinct.texts))
        if encoded.cut or blank:
            with self._counting:
                self._truncated_texts += encoded.cut
                self._blank_texts += blank
        if encoded.cut and self._options.on_truncate == "warn":
            _logger.warning(
                "%d of %d distinct texts are longer than the %d tokens that this matcher reads and were cut off",
                encoded.cut,
                len(distinct.texts),
                encoder.tokenizer.max_length,
            )
        return encoded

    def pair_scores(
        self, texts: Sequence[str], encoded: Encoded, a: NDArray[np.int64], b: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the match probability of ``texts[a[i]]`` and ``texts[b[i]]`` for each i, shape (n,).

        Args:
            texts: distinct texts.
            encoded: from `encode_pairs`.
            a: indices of texts, shape (n,).
            b: indices of texts, shape (n,).
        """
        scores = self.pair_calibration.probability(self.pair_values(texts, encoded, a, b))
        never = self.never_match(texts)
        if never.any():
            scores[never[a] | never[b]] = 0.0
        return scores

    def pair_values(
        self, texts: Sequence[str], encoded: Encoded, a: NDArray[np.int64], b: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return what `pair_calibration` maps to scores: the pair head's numbers, or without one the cosines."""
        cosines = pair_cosines(encoded.vectors, a, b)
        head = self._require_open().head
        if head is None or encoded.tokens is None:
            return cosines
        return head.logits(texts, encoded.tokens, a, b, cosines)

    def head_scores(self, query: str, candidates: Sequence[str]) -> NDArray[np.float32] | None:
        """Return the pair head's score of a query with each of a few candidates, shape (n,); None without a head.

        The tokens of the latest candidates are kept, because the same ones are proposed again and again.
        """
        if not self.has_head:
            return None
        if self._candidate_cache is None:
            self._candidate_cache = VectorCache(_CACHED_CANDIDATES)
        distinct = distinct_of_pairs((query, candidate) for candidate in candidates)
        encoded = self._encode(distinct, with_tokens=True, cache=self._candidate_cache)
        return self.pair_scores(distinct.texts, encoded, distinct.index[0::2], distinct.index[1::2])

    def never_match(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Return True for each text whose pairs all score 0.0, shape (n,); see ``on_blank`` of `load`."""
        if self._options.on_blank == "score":
            return np.zeros(len(texts), dtype=np.bool_)
        return np.fromiter(map(_is_blank, texts), np.bool_, len(texts))

    def _require_open(self) -> OpenMatcher:
        opened = self._opened
        if opened is None:
            raise MatcherClosedError("this matcher was closed; load it again with Matcher.load")
        if opened.encoder.session.inherited:
            # Two threads of a forked child may both come here; either session serves.
            opened = self._opened = open_matcher(self._directory, self._options, self.manifest)
        return opened


def _is_blank(text: str) -> bool:
    """Return True for an empty text and for white space alone."""
    # Unlike strip(), isspace() copies nothing of a huge text.
    return not text or text.isspace()
