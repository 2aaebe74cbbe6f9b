"""`Matcher`: do these two texts mean the same?"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from flipkd_sdk.errors import ConfigError, MatcherClosedError
from flipkd_sdk.runtimes.encoding.inputs import (
    DistinctTexts,
    distinct_of_pair,
    distinct_of_pairs,
    distinct_of_two,
    distinct_texts,
    several,
)
from flipkd_sdk.runtimes.load import LoadOptions, OpenMatcher, open_matcher
from flipkd_sdk.runtimes.search.similarity import matrix_blocks, pair_cosines

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from numpy.typing import NDArray

    from flipkd_sdk.artifact.manifest import Manifest
    from flipkd_sdk.runtimes.search.candidates import CandidateSet, Match

_logger = logging.getLogger("flipkd_sdk")


class Matcher:
    """Scores how likely two texts mean the same.

    A pair's score does not depend on what else is scored with it, in which order, from which thread or process, or with
    how many threads (within 1e-6). One matcher serves any number of threads. It can be pickled, which opens it again
    from its directory on the other side; a forked child opens it again by itself when first used.

    Made by `Matcher.load`.

    Example:
        >>> with Matcher.load("faq-matcher") as matcher:
        ...     matcher.score("How do I reset my PIN?", "I forgot my PIN, what now?")
        0.93
    """

    def __init__(self, directory: Path, options: LoadOptions, expected: Manifest | None = None) -> None:
        self._directory = directory
        self._options = options
        self._opened: OpenMatcher | None = open_matcher(directory, options, expected)
        self.manifest: Manifest = self._opened.manifest
        """What is known about the matcher: where it comes from, how it was calibrated, what was measured."""
        self._truncated_texts = 0
        self._counting = threading.Lock()

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
    ) -> Self:
        """Open a matcher directory made by ``flipkd export``.

        Args:
            directory: the matcher directory.
            device: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, or ``"auto"``: CUDA where the installed onnxruntime has it and
                it starts, else the CPU, with one warning through `logging` if it does not start.
            precision: a variant of the matcher: ``"fp32"``, ``"fp16"``, ``"int8"``, ``"int4"``, or ``"auto"``, which is
                the first that is there of int8, fp32, int4, fp16 on the CPU and of fp16, fp32, int8, int4 on CUDA.
            threads: CPU threads of one run; None for what the process may use, by its CPU affinity and cgroup quota.
            max_batch_tokens: most tokens of one run, padding included; bounds memory and does not move scores. None for
                512 on the CPU and 16,384 on CUDA.
            gpu_mem_limit: most bytes of device memory that onnxruntime's arena may take on CUDA; None for no limit.
            cache_size: how many texts' vectors to keep between calls; 0 for none.
            on_truncate: what to do about a text longer than the matcher reads: cut it off and log a warning with their
                number, raise, or cut it off silently.

        Raises:
            MatcherDirectoryError: a file is missing, changed, foreign or malformed, or the precision is not there.
            UnsupportedFormatError: the directory was made by a newer release.
            ExecutionError: onnxruntime is missing, or the device asked for is not what would run.
            SelfTestError: this CPU has other instruction sets than the one that the variant was verified on, and the
                variant gives other vectors here; tried once per process.
            ConfigError: an option has a value that it cannot have.
        """
        options = LoadOptions(
            device=device,
            precision=precision,
            threads=threads,
            max_batch_tokens=max_batch_tokens,
            gpu_mem_limit=gpu_mem_limit,
            cache_size=cache_size,
            on_truncate=on_truncate,
        )
        # Absolute and without links, so that another process opens the same directory.
        return cls(Path(directory).resolve(), options)

    def score(self, a: str, b: str) -> float:
        """Match probability of two texts, in [0, 1]; ``score(a, b)`` and ``score(b, a)`` agree.

        Raises:
            InvalidTextError: a text is not a str.
            TextTooLongError: a text is too long and ``on_truncate="error"``.
            MatcherClosedError: after `close`.
        """
        return float(self._score_pairs(distinct_of_pair(a, b))[0])

    def score_pairs(self, pairs: Iterable[tuple[str, str]], *, batch_size: int | None = None) -> NDArray[np.float32]:
        """Match probability of each pair, in order; each distinct text is encoded once.

        Args:
            pairs: any iterable of two texts each, also a generator.
            batch_size: most texts of one run, beside ``max_batch_tokens``; moves no score.

        Returns:
            Shape (n,).

        Raises:
            InvalidTextError: an element is not a pair of two str; the message names it.
            TextTooLongError: a text is too long and ``on_truncate="error"``.
            ConfigError: ``batch_size`` is less than 1.
            MatcherClosedError: after `close`.
        """
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, or None; it is {batch_size}")
        return self._score_pairs(distinct_of_pairs(pairs), batch_size)

    def score_matrix(self, a_texts: Iterable[str], b_texts: Iterable[str]) -> NDArray[np.float32]:
        """Match probability of every text of ``a_texts`` with every text of ``b_texts``.

        Returns:
            Shape (n, m).

        Raises:
            InvalidTextError: an element is not a str; the message names it.
            TextTooLongError: a text is too long and ``on_truncate="error"``.
            MatcherClosedError: after `close`.
        """
        distinct, rows = distinct_of_two(
            several(a_texts, "a_texts"),
            several(b_texts, "b_texts"),
            "a_texts, text {}".format,
            "b_texts, text {}".format,
        )
        vectors = self.encode_distinct(distinct)
        scores = np.empty((rows, len(distinct.index) - rows), dtype=np.float32)
        a, b = vectors[distinct.index[:rows]], vectors[distinct.index[rows:]]
        for row_block, column_block, cosines in matrix_blocks(a, b):
            scores[row_block, column_block] = self.manifest.calibration.probability(cosines)
        return scores

    def is_match(self, a: str, b: str) -> bool:
        """Whether the score of two texts reaches `threshold`. Raises as `score` does."""
        return self.score(a, b) >= self.threshold

    def rank(
        self,
        query: str,
        candidates: Iterable[str],
        *,
        top_k: int | None = 10,
        score_cutoff: float | None = None,
    ) -> list[Match]:
        """The candidates that match a query best, best first and equal ones in the order given.

        Candidates that are searched more than once are better encoded once, by `candidates`.

        Args:
            query: the text to match.
            candidates: the texts to choose from.
            top_k: most matches returned; None for all.
            score_cutoff: leave out matches that score below it; None for none.

        Raises:
            InvalidTextError: a text is not a str; the message names it.
            TextTooLongError: a text is too long and ``on_truncate="error"``.
            ConfigError: ``top_k`` is less than 1.
            MatcherClosedError: after `close`.
        """
        from flipkd_sdk.runtimes.search.candidates import matches
        from flipkd_sdk.runtimes.search.exact import Ranking, search

        ranking = Ranking(self.manifest.calibration, top_k, score_cutoff)
        distinct, _ = distinct_of_two(
            [query], several(candidates, "candidates"), lambda _: "query", "candidate {}".format
        )
        vectors = self.encode_distinct(distinct)
        (found,) = search(vectors[:1], vectors[distinct.index[1:]], ranking)
        return matches(found, [distinct.texts[place] for place in distinct.index[1:]])

    def candidates(self, texts: Iterable[str]) -> CandidateSet:
        """Encode texts once, to rank them for many queries.

        Raises:
            InvalidTextError: an element is not a str; the message names it.
            TextTooLongError: a text is too long and ``on_truncate="error"``.
            MatcherClosedError: after `close`.
        """
        # Whoever scores pairs alone need not import what searches.
        from flipkd_sdk.runtimes.search.candidates import CandidateSet

        distinct = distinct_texts(several(texts, "texts"))
        vectors = self.encode_distinct(distinct)[distinct.index]
        return CandidateSet(self, [distinct.texts[place] for place in distinct.index], vectors)

    def encode(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Unit vectors of texts, in order; the cosine of two of them is their dot product.

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
        """Score from which on a pair counts as a match."""
        return self.manifest.calibration.threshold

    @property
    def device(self) -> str:
        """The device that runs: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``."""
        return self._require_open().device

    @property
    def precision(self) -> str:
        """The variant in use, such as ``"int8"``."""
        return self._require_open().precision

    @property
    def truncated_texts(self) -> int:
        """How many texts were cut off so far, each counted once per call that it was part of."""
        return self._truncated_texts

    @property
    def identity(self) -> str:
        """What the vectors depend on, as a hash: model, tokenizer and the way that this release computes.

        Vectors of matchers with the same identity can be compared. The calibration is no part of it.
        """
        import hashlib

        from flipkd_sdk.artifact.manifest import SCORING_VERSION

        tokenizer, variant = self.manifest.tokenizer, self.manifest.variant(self.precision)
        parts = (variant.sha256, tokenizer.sha256, tokenizer.max_length, tokenizer.empty_token_id, SCORING_VERSION)
        return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()

    def close(self) -> None:
        """Let go of the model; calls still running in other threads finish. Closing twice is harmless."""
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
        cosines = pair_cosines(self.encode_distinct(distinct, batch_size), distinct.index[0::2], distinct.index[1::2])
        return self.manifest.calibration.probability(cosines)

    def encode_distinct(self, distinct: DistinctTexts, batch_size: int | None = None) -> NDArray[np.float32]:
        """Unit vectors of ``distinct.texts``, shape (distinct, d); what all methods are made of. Raises as `encode`."""
        encoder = self._require_open().encoder
        encoded = encoder.encode(distinct, max_rows=batch_size)
        if encoded.cut:
            with self._counting:
                self._truncated_texts += encoded.cut
        if encoded.cut and self._options.on_truncate == "warn":
            _logger.warning(
                "%d of %d distinct texts are longer than the %d tokens that this matcher reads and were cut off",
                encoded.cut,
                len(distinct.texts),
                encoder.tokenizer.max_length,
            )
        return encoded.vectors

    def _require_open(self) -> OpenMatcher:
        opened = self._opened
        if opened is None:
            raise MatcherClosedError("this matcher was closed; load it again with Matcher.load")
        if opened.encoder.session.inherited:
            # Two threads of a forked child may both come here; either session serves.
            opened = self._opened = open_matcher(self._directory, self._options, self.manifest)
        return opened
