"""`CandidateSet`: texts that are encoded once and searched many times."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.runtimes.encoding.inputs import distinct_texts, several
from flipkd_sdk.runtimes.options import check_path, shown
from flipkd_sdk.runtimes.search.exact import Ranking, Vectors, search
from flipkd_sdk.runtimes.search.match import Match, decide

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts
    from flipkd_sdk.runtimes.scorer import Scorer


class _HasScorer(Protocol):
    """A `Matcher`, which this module cannot import, because it imports this one."""

    scorer: Scorer


@dataclass(frozen=True, slots=True)
class _Content:
    """The candidates at one moment. Appending writes behind ``size`` only, so a search keeps what it began with."""

    texts: list[str]
    vectors: NDArray[np.float32]
    """Shape (capacity, d); rows from ``size`` on are free."""
    never_match: NDArray[np.bool_]
    """Shape (size,)."""

    @property
    def size(self) -> int:
        return len(self.never_match)

    @property
    def used(self) -> NDArray[np.float32]:
        return self.vectors[: self.size]


class CandidateSet:
    """Texts to match queries against, encoded once; made by `Matcher.candidates` or `CandidateSet.load`.

    Search is exact, and a candidate's score is the one that `Matcher.score` returns for it. Any number of threads may
    use a set, also while it changes: a search uses the candidates of the moment when it began.

    Example:
        >>> faq = matcher.candidates(["How do I reset my PIN?", "Is there a fee for cash abroad?"])
        >>> faq.rank("I forgot my PIN", top_k=1)
        [Match(index=0, text='How do I reset my PIN?', score=0.93)]
    """

    def __init__(
        self, scorer: Scorer, texts: list[str], vectors: NDArray[np.float32], decider: Scorer | None = None
    ) -> None:
        self._scorer = scorer
        self._decider = scorer if decider is None else decider
        self._content = _Content(texts, vectors, scorer.never_match(texts))
        self._changing = threading.Lock()

    @classmethod
    def load(cls, path: str | Path, matcher: _HasScorer, *, mmap: bool = False) -> Self:
        """Open a directory written by `save`.

        All files are checked: hashes, shapes, and that every vector has length one.

        Args:
            path: the directory.
            matcher: a matcher of the same model, tokenizer and precision as the one that encoded the candidates.
            mmap: map the vectors into memory instead of reading them, so that processes share one copy and sets larger
                than memory can be searched. The file must then stay as it is while the set is in use: a later change
                moves scores without notice, and if the file is cut, the operating system ends the process (SIGBUS).

        Raises:
            CandidateSetError: the path is no such directory, was changed, or belongs to another matcher or a newer
                release.
            MatcherClosedError: the matcher was closed.
        """
        # Files are seldom needed, and what reads them is slow to import.
        from flipkd_sdk.runtimes.search.files import read_candidates

        check_path("path", path)
        if not hasattr(matcher, "scorer"):
            raise ConfigError(f"matcher must be a Matcher, as Matcher.load returns; it is {shown(matcher)}")
        scorer = matcher.scorer
        texts, vectors = read_candidates(
            path, identity=scorer.identity, dimension=scorer.manifest.encoder.dimension, mmap=mmap
        )
        return cls(scorer, texts, vectors)

    def decided_by(self, matcher: _HasScorer) -> CandidateSet:
        """Return a set of the same candidates whose best ones another matcher scores.

        This set's matcher, such as a static one, then only proposes: ``rescore`` candidates a query, of which the other
        matcher's best are returned with its scores. Texts that are not proposed are never encoded by it.
        """
        content = self._content
        return CandidateSet(self._scorer, content.texts[: content.size], content.used, matcher.scorer)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the candidates to a new directory, which appears complete or not at all.

        Args:
            path: the directory.
            overwrite: replace an existing directory of candidates.

        Raises:
            OutputExistsError: the path exists, and ``overwrite`` is False or it is no directory of candidates.
            OSError: the directory cannot be written.
            MatcherClosedError: the matcher was closed.
        """
        from flipkd_sdk.runtimes.search.files import write_candidates

        check_path("path", path)
        content = self._content
        write_candidates(
            path,
            content.texts[: content.size],
            content.used,
            identity=self._scorer.identity,
            overwrite=overwrite,
        )

    def __len__(self) -> int:
        return self._content.size

    def __repr__(self) -> str:
        return f"<CandidateSet of {len(self)} texts, {self._scorer!r}>"

    @property
    def texts(self) -> list[str]:
        """Return a copy of the candidates' texts, in order."""
        content = self._content
        return content.texts[: content.size]

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Return the unit vectors of `texts`, shape (n, d), for a vector database; read-only, without a copy.

        A database compares them by inner product. Store `Matcher.identity` with them: vectors of another matcher
        cannot be compared with these.
        """
        view = self._content.used.view()
        view.flags.writeable = False
        return view

    def rank(
        self, query: str, *, top_k: int | None = 10, score_cutoff: float | None = None, rescore: int = 10
    ) -> list[Match]:
        """Return the candidates that match a query best, best first and equal ones in their order.

        Args:
            query: the text to match.
            top_k: largest number of matches; None for all.
            score_cutoff: smallest score of a match; None for any.
            rescore: number of candidates that the pair head decides on, see `Matcher.rank`.

        Raises:
            InvalidTextError: the query is not a str.
            TextTooLongError: the query is too long and the matcher was loaded with ``on_truncate="error"``.
            ConfigError: ``top_k``, ``score_cutoff`` or ``rescore`` is invalid.
            MatcherClosedError: the matcher was closed.
        """
        (found,) = self._rank(distinct_texts([query], lambda _: "query"), top_k, score_cutoff, rescore)
        return found

    def rank_many(
        self, queries: Iterable[str], *, top_k: int | None = 10, score_cutoff: float | None = None, rescore: int = 10
    ) -> Iterator[list[Match]]:
        """Return the result of `rank` for each query, in order, with the queries encoded and searched together.

        This call encodes the queries. The results come one by one, so that they need not fit in memory.

        Args:
            queries: the texts to match.
            top_k: largest number of matches per query; None for all.
            score_cutoff: smallest score of a match; None for any.
            rescore: number of candidates per query that the pair head decides on, see `Matcher.rank`.

        Raises:
            InvalidTextError: a query is not a str; the message names it.
            TextTooLongError: a query is too long and the matcher was loaded with ``on_truncate="error"``.
            ConfigError: ``top_k``, ``score_cutoff`` or ``rescore`` is invalid.
            MatcherClosedError: the matcher was closed.
        """
        return self._rank(distinct_texts(several(queries, "queries"), "query {}".format), top_k, score_cutoff, rescore)

    def append(self, texts: Iterable[str]) -> None:
        """Encode further texts and add them at the end.

        Raises:
            InvalidTextError: an element is not a str; the message names it.
            TextTooLongError: a text is too long and the matcher was loaded with ``on_truncate="error"``.
            MatcherClosedError: the matcher was closed.
        """
        distinct = distinct_texts(several(texts, "texts"))
        added = [distinct.texts[index] for index in distinct.index]
        new_vectors = self._scorer.encode_distinct(distinct)[distinct.index]
        new_never = self._scorer.never_match(added)
        if not added:
            return
        with self._changing:
            old = self._content
            size = old.size + len(added)
            vectors = old.vectors
            # The vectors of a file have no capacity left and may be read-only; the first append copies them.
            if size > len(vectors):
                vectors = np.empty((max(size, 2 * old.size), vectors.shape[1]), dtype=np.float32)
                vectors[: old.size] = old.used
            vectors[old.size : size] = new_vectors
            # Over the remains of an append that ran out of memory.
            old.texts[old.size :] = added
            self._content = _Content(old.texts, vectors, np.concatenate([old.never_match, new_never]))

    def remove(self, indices: Iterable[int]) -> None:
        """Remove candidates by their indices; those behind them move up. Copies the others.

        Raises:
            ConfigError: an index is no integer or there is no such candidate; nothing is removed then.
        """
        with self._changing:
            old = self._content
            gone = _indices(indices, old.size)
            kept = [index for index in range(old.size) if index not in gone]
            self._content = _Content([old.texts[index] for index in kept], old.used[kept], old.never_match[kept])

    def rank_vectors(
        self,
        queries: ArrayLike,
        *,
        texts: Sequence[str] | None = None,
        top_k: int | None = 10,
        score_cutoff: float | None = None,
        rescore: int = 10,
    ) -> Iterator[list[Match]]:
        """Return the result of `rank_many` for queries that `Matcher.encode` has encoded already.

        Args:
            queries: unit vectors, shape (q, d).
            texts: the texts of the queries. Without them, a blank query has the model's score, and scores are those of
                the cosine, because the pair head reads texts.
            top_k: largest number of matches per query; None for all.
            score_cutoff: smallest score of a match; None for any.
            rescore: number of candidates per query that the pair head decides on, see `Matcher.rank`.

        Raises:
            InvalidTextError: an element of ``texts`` is not a str.
            ConfigError: ``queries`` has another shape or is not finite, or an option is invalid.
        """
        content = self._content
        vectors = _query_vectors(queries, content.vectors.shape[1])
        asked: list[str | None] = [None] * len(vectors)
        if texts is None:
            never = np.zeros(len(vectors), dtype=np.bool_)
        else:
            # Checked as every other text is.
            distinct = distinct_texts(several(texts, "texts"))
            never = self._scorer.never_match(distinct.texts)[distinct.index]
            asked = [distinct.texts[index] for index in distinct.index]
        if len(never) != len(vectors):
            raise ConfigError(f"there are {len(never)} texts, but {len(vectors)} query vectors")
        ranking = self._ranking(top_k, score_cutoff, rescore if texts is not None else 0)
        proposed = search(Vectors(vectors, never), Vectors(content.used, content.never_match), ranking.proposing)
        return (
            decide(self._decider, query, found, content.texts, ranking)
            for query, found in zip(asked, proposed, strict=True)
        )

    def _rank(
        self, distinct: DistinctTexts, top_k: int | None, score_cutoff: float | None, rescore: int
    ) -> Iterator[list[Match]]:
        # Before the queries are encoded, which may take long.
        self._ranking(top_k, score_cutoff, rescore)
        vectors = self._scorer.encode_distinct(distinct)[distinct.index]
        texts = [distinct.texts[index] for index in distinct.index]
        return self.rank_vectors(vectors, texts=texts, top_k=top_k, score_cutoff=score_cutoff, rescore=rescore)

    def _ranking(self, top_k: int | None, score_cutoff: float | None, rescore: int) -> Ranking:
        ranking = Ranking(self._scorer.calibration, top_k, score_cutoff, rescore)
        if self._decider.has_head or self._decider is not self._scorer:
            return ranking
        return Ranking(self._scorer.calibration, top_k, score_cutoff)


def _query_vectors(queries: ArrayLike, dimension: int) -> NDArray[np.float32]:
    try:
        vectors = np.asarray(queries, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"queries must be vectors, as Matcher.encode returns; they are {shown(queries)}") from error
    if vectors.ndim != 2 or vectors.shape[1] != dimension:
        raise ConfigError(f"queries have the shape {vectors.shape}; expected (number of queries, {dimension})")
    if not np.isfinite(vectors).all():
        raise ConfigError("queries contain a number that is not finite; encode the texts again")
    return vectors


def _indices(indices: Iterable[int], size: int) -> set[int]:
    try:
        gone = set(indices)
    except TypeError:
        raise ConfigError(f"indices must be integers in a list; they are {shown(indices)}") from None
    for index in gone:
        if isinstance(index, bool) or not isinstance(index, int | np.integer) or not 0 <= index < size:
            raise ConfigError(f"there is no candidate {shown(index)} to remove; there are {size}, from 0 on")
    return gone
