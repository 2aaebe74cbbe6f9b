"""`Matcher`: scores how likely two texts mean the same."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.evaluation.cosines import matrix_blocks
from flipkd_sdk.runtimes.encoding.inputs import (
    DistinctTexts,
    distinct_of_pair,
    distinct_of_pairs,
    distinct_of_two,
    distinct_texts,
    several,
)
from flipkd_sdk.runtimes.load import LoadOptions
from flipkd_sdk.runtimes.options import check_integer, check_path
from flipkd_sdk.runtimes.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from numpy.typing import NDArray

    from flipkd_sdk.artifact.manifest import Manifest
    from flipkd_sdk.evaluation.calibration import Calibration
    from flipkd_sdk.runtimes.explanation.explainer import Explainer
    from flipkd_sdk.runtimes.explanation.explanation import Explanation
    from flipkd_sdk.runtimes.search.candidates import CandidateSet
    from flipkd_sdk.runtimes.search.match import Match


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
        self.scorer = Scorer(directory, options, expected)
        """The open model, for code that joins calls or keeps vectors."""
        self._explainer: Explainer | None = None
        self._explaining = threading.Lock()

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

    def score_pairs(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Return the match probability of each pair, in order; each distinct text is encoded once.

        Args:
            pairs: any iterable of two texts each, also a generator.
            batch_size: largest number of texts in one run, beside ``max_batch_tokens``; moves no score.
            progress: called between batches with the number of distinct texts encoded and that of all. An exception
                that it raises stops the call.

        Returns:
            Shape (n,).

        Raises:
            InvalidTextError: an element is not a pair of two str; the message names it.
            TextTooLongError: a text is too long and ``on_truncate="error"``.
            ConfigError: ``batch_size`` is invalid.
            MatcherClosedError: after `close`.
        """
        check_integer("batch_size", batch_size, none="for no limit")
        return self._score_pairs(distinct_of_pairs(pairs), batch_size, progress)

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
        vectors, never = self.scorer.encode_distinct(distinct), self.scorer.never_match(distinct.texts)
        rows, columns = distinct.index[:count], distinct.index[count:]
        scores = np.empty((len(rows), len(columns)), dtype=np.float32)
        for row_block, column_block, cosines in matrix_blocks(vectors[rows], vectors[columns]):
            scores[row_block, column_block] = self.calibration.probability(cosines)
        scores[never[rows]] = 0.0
        scores[:, never[columns]] = 0.0
        return scores

    def explain(self, a: str, b: str, *, background: NDArray[np.float32] | None = None) -> Explanation:
        """Return the contributions of words to the cosine of two texts, and the words that the pair head aligned.

        The first explanation opens the model a second time, which `close` releases too; later ones cost as much as
        `score`. Scores are those of `score`.

        Args:
            a: the first text.
            b: the second text.
            background: mean vector of texts of the domain, such as ``matcher.encode(texts).mean(axis=0)``. The part of
                the cosine that both texts share with it becomes the `baseline`, so that contributions show what the
                two share beyond it.

        Raises:
            InvalidTextError: a text is not a str.
            TextTooLongError: a text is too long and ``on_truncate="error"``.
            ConfigError: ``background`` is no such vector, or the matcher does not pool by a mean over tokens.
            MatcherClosedError: after `close`.
        """
        from flipkd_sdk.runtimes.explanation.explainer import Explainer

        # Many first calls at once must not each open a session.
        with self._explaining:
            explainer = self._explainer
            if explainer is None or explainer.opened is not self.scorer.opened():
                explainer = self._explainer = Explainer(self.scorer)
        return explainer.explain(distinct_of_pair(a, b), background)

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
        from flipkd_sdk.runtimes.search.candidates import CandidateSet
        from flipkd_sdk.runtimes.search.exact import Ranking, Vectors, search
        from flipkd_sdk.runtimes.search.match import decide

        if isinstance(candidates, CandidateSet):
            return candidates.rank(query, top_k=top_k, score_cutoff=score_cutoff, rescore=rescore)
        ranking = Ranking(self.calibration, top_k, score_cutoff, rescore if self.has_head else 0)
        distinct, _ = distinct_of_two(
            [query], several(candidates, "candidates"), lambda _: "query", "candidate {}".format
        )
        encoded = Vectors(self.scorer.encode_distinct(distinct), self.scorer.never_match(distinct.texts))
        (found,) = search(encoded[:1], encoded.take(distinct.index[1:]), ranking.proposing)
        return decide(self.scorer, query, found, [distinct.texts[index] for index in distinct.index[1:]], ranking)

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
        vectors = self.scorer.encode_distinct(distinct)[distinct.index]
        return CandidateSet(self.scorer, [distinct.texts[index] for index in distinct.index], vectors)

    def encode(
        self, texts: Iterable[str], *, progress: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float32]:
        """Return unit vectors of texts, in order; the cosine of two of them is their dot product.

        Args:
            texts: any iterable of texts.
            progress: called between batches with the number of distinct texts encoded and that of all. An exception
                that it raises stops the call.

        Returns:
            Shape (n, d).

        Raises:
            InvalidTextError: an element is not a str; the message names it.
            TextTooLongError: a text is too long and ``on_truncate="error"``.
            MatcherClosedError: after `close`.
        """
        distinct = distinct_texts(several(texts, "texts"))
        return self.scorer.encode_distinct(distinct, progress=progress)[distinct.index]

    def familiarity(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Return how familiar texts are: the share of development texts that are less similar to the training texts.

        A value below 0.01 means that less than 1% of the development texts were as far from everything that the
        matcher learned from: its scores are then hardly to be trusted.

        Returns:
            Shape (n,), in [0, 1].

        Raises:
            ConfigError: the directory has no sketch of the training texts, as those of earlier releases.
            MatcherDirectoryError: the sketch is missing, changed or malformed.
            InvalidTextError: an element is not a str; the message names it.
            TextTooLongError: a text is too long and ``on_truncate="error"``.
            MatcherClosedError: after `close`.
        """
        return self.scorer.sketch.quantile(self.training_similarity(texts))

    def training_similarity(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Return the cosine of each text with the nearest of a few hundred centroids of the training texts.

        `familiarity` compares it with the development texts; raises the same errors.

        Returns:
            Shape (n,).
        """
        sketch = self.scorer.sketch
        return sketch.similarity(self.encode(texts))

    @property
    def manifest(self) -> Manifest:
        """Return the content of ``manifest.json``: the matcher's sources, its calibration and its measured quality."""
        return self.scorer.manifest

    @property
    def threshold(self) -> float:
        """Return the score from which on a pair is a match."""
        return self.scorer.pair_calibration.threshold

    @property
    def search_threshold(self) -> float | None:
        """Return the score from which on the best candidate of `rank` is an answer; None if none was fitted."""
        search = self.pair_calibration.search
        return None if search is None else search.threshold

    @property
    def calibration(self) -> Calibration:
        """Return the map from cosines to match probabilities, with its threshold."""
        return self.manifest.calibration

    @property
    def pair_calibration(self) -> Calibration:
        """Return the calibration that `score` uses: the pair head's, or without one the cosine's."""
        return self.scorer.pair_calibration

    @property
    def has_head(self) -> bool:
        """Return True if a pair head decides on pairs."""
        return self.scorer.has_head

    @property
    def dimension(self) -> int:
        """Return the dimension of the vectors."""
        return self.manifest.encoder.dimension

    @property
    def device(self) -> str:
        """Return the device that runs: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``."""
        return self.scorer.opened().device

    @property
    def precision(self) -> str:
        """Return the variant in use, such as ``"int8"``."""
        return self.scorer.opened().precision

    @property
    def truncated_texts(self) -> int:
        """Return the number of texts cut so far, each counted once in every call that contains it."""
        return self.scorer.truncated_texts

    @property
    def blank_texts(self) -> int:
        """Return the number of blank texts so far, each counted once in every call that contains it."""
        return self.scorer.blank_texts

    @property
    def identity(self) -> str:
        """Return a hash of everything that vectors depend on: the model, the tokenizer and the way of computing.

        Vectors of matchers with the same identity can be compared. The calibration is no part of it.
        """
        return self.scorer.identity

    def close(self) -> None:
        """Release the model; calls still running in other threads finish. Closing twice is harmless."""
        self.scorer.close()
        self._explainer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self.scorer)

    def __reduce__(self) -> tuple[type[Self], tuple[Path, LoadOptions, Manifest]]:
        self.scorer.opened()
        return type(self), (self.scorer.directory, self.scorer.options, self.manifest)

    def _score_pairs(
        self,
        distinct: DistinctTexts,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        encoded = self.scorer.encode_pairs(distinct, batch_size, progress=progress)
        return self.scorer.pair_scores(distinct.texts, encoded, distinct.index[0::2], distinct.index[1::2])
