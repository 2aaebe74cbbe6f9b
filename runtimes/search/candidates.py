"""`CandidateSet`: texts that are encoded once and searched many times."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts, distinct_texts, several
from flipkd_sdk.runtimes.search.exact import Found, Ranking, search

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.matcher import Matcher


@dataclass(frozen=True, slots=True)
class Match:
    """One candidate found for a query."""

    index: int
    """Its place among the candidates, from 0."""
    text: str
    score: float
    """Match probability in [0, 1]."""


def matches(found: Found, texts: Sequence[str]) -> list[Match]:
    """Put the texts to what a search found."""
    return [
        Match(place, texts[place], score)
        for place, score in zip(found.places.tolist(), found.scores.tolist(), strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Content:
    """The candidates at one moment. Appending writes behind ``size`` only, so a search sees what it began with."""

    texts: list[str]
    vectors: NDArray[np.float32]
    """Shape (room, d); rows from ``size`` on are still free."""
    size: int

    @property
    def used(self) -> NDArray[np.float32]:
        return self.vectors[: self.size]


class CandidateSet:
    """Texts to match queries against, encoded once; made by `Matcher.candidates` or `CandidateSet.load`.

    Search is exact, and a candidate's score is the one that `Matcher.score` gives for it. A set serves any number of
    threads, also while it is changed: a search sees the candidates that were there when it began.

    Example:
        >>> faq = matcher.candidates(["How do I reset my PIN?", "Is there a fee for cash abroad?"])
        >>> faq.rank("I forgot my PIN", top_k=1)
        [Match(index=0, text='How do I reset my PIN?', score=0.93)]
    """

    def __init__(self, matcher: Matcher, texts: list[str], vectors: NDArray[np.float32]) -> None:
        self._matcher = matcher
        self._content = _Content(texts, vectors, len(texts))
        self._changing = threading.Lock()

    @classmethod
    def load(cls, path: str | Path, matcher: Matcher) -> Self:
        """Open a directory written by `save`; the vectors are mapped into memory, not read.

        Args:
            path: the directory.
            matcher: a matcher of the same model, tokenizer and precision as the one that encoded the candidates.

        Raises:
            CandidateSetError: it is not such a directory, was changed, or belongs to another matcher or a newer
                release.
            MatcherClosedError: the matcher was closed.
        """
        # Files are seldom needed, and what reads them is slow to import.
        from flipkd_sdk.runtimes.search.files import read_candidates

        texts, vectors = read_candidates(path, identity=matcher.identity, dimension=matcher.manifest.encoder.dimension)
        return cls(matcher, texts, vectors)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the candidates to a new directory, which appears complete or not at all.

        Args:
            path: the directory.
            overwrite: replace a directory of candidates that is there.

        Raises:
            OutputExistsError: something is there, and overwriting it was not asked for or it holds no candidates.
            OSError: it cannot be written.
            MatcherClosedError: the matcher was closed.
        """
        from flipkd_sdk.runtimes.search.files import write_candidates

        content = self._content
        write_candidates(
            path,
            content.texts[: content.size],
            content.used,
            identity=self._matcher.identity,
            overwrite=overwrite,
        )

    def __len__(self) -> int:
        return self._content.size

    def __repr__(self) -> str:
        return f"<CandidateSet of {len(self)} texts, {self._matcher!r}>"

    @property
    def texts(self) -> list[str]:
        """The candidates in order; a copy."""
        content = self._content
        return content.texts[: content.size]

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Unit vectors in the order of `texts`, shape (n, d), to be handed to a vector database; read-only, no copy.

        A database compares them by inner product. Store `Matcher.identity` with them: vectors of another matcher
        cannot be compared with these.
        """
        view = self._content.used.view()
        view.flags.writeable = False
        return view

    def rank(self, query: str, *, top_k: int | None = 10, score_cutoff: float | None = None) -> list[Match]:
        """The candidates that match a query best, best first and equal ones in their order.

        Args:
            query: the text to match.
            top_k: most matches returned; None for all.
            score_cutoff: leave out matches that score below it; None for none.

        Raises:
            InvalidTextError: the query is not a str.
            TextTooLongError: the query is too long and the matcher was loaded with ``on_truncate="error"``.
            ConfigError: ``top_k`` is less than 1.
            MatcherClosedError: the matcher was closed.
        """
        (found,) = self._rank(distinct_texts([query], lambda _: "query"), top_k, score_cutoff)
        return found

    def rank_many(
        self, queries: Iterable[str], *, top_k: int | None = 10, score_cutoff: float | None = None
    ) -> Iterator[list[Match]]:
        """What `rank` gives for each query, in order, but with the queries encoded and searched together.

        The queries are encoded by this call; the results come one by one, so that they need not fit in memory.

        Args:
            queries: the texts to match.
            top_k: most matches per query; None for all.
            score_cutoff: leave out matches that score below it; None for none.

        Raises:
            InvalidTextError: a query is not a str; the message names it.
            TextTooLongError: a query is too long and the matcher was loaded with ``on_truncate="error"``.
            ConfigError: ``top_k`` is less than 1.
            MatcherClosedError: the matcher was closed.
        """
        return self._rank(distinct_texts(several(queries, "queries"), "query {}".format), top_k, score_cutoff)

    def append(self, texts: Iterable[str]) -> None:
        """Encode further texts and add them at the end.

        Raises:
            InvalidTextError: an element is not a str; the message names it.
            TextTooLongError: a text is too long and the matcher was loaded with ``on_truncate="error"``.
            MatcherClosedError: the matcher was closed.
        """
        distinct = distinct_texts(several(texts, "texts"))
        fresh = self._matcher.encode_distinct(distinct)[distinct.index]
        if not len(fresh):
            return
        with self._changing:
            old = self._content
            size = old.size + len(fresh)
            vectors = old.vectors
            # A loaded file has no room and cannot be written to; the first append copies it.
            if size > len(vectors):
                vectors = np.empty((max(size, 2 * old.size), vectors.shape[1]), dtype=np.float32)
                vectors[: old.size] = old.used
            vectors[old.size : size] = fresh
            # Over whatever an append that ran out of memory left behind.
            old.texts[old.size :] = [distinct.texts[place] for place in distinct.index]
            self._content = _Content(old.texts, vectors, size)

    def remove(self, indices: Iterable[int]) -> None:
        """Take candidates out by their places; those behind them move up. Copies the others.

        Raises:
            ConfigError: there is no candidate at a place; nothing is removed then.
        """
        with self._changing:
            old = self._content
            gone = set(indices)
            for index in sorted(gone):
                if not 0 <= index < old.size:
                    raise ConfigError(f"there is no candidate {index} to remove; there are {old.size}, from 0 on")
            kept = [place for place in range(old.size) if place not in gone]
            self._content = _Content([old.texts[place] for place in kept], old.used[kept], len(kept))

    def rank_vectors(
        self, queries: NDArray[np.float32], *, top_k: int | None = 10, score_cutoff: float | None = None
    ) -> Iterator[list[Match]]:
        """What `rank_many` gives, for queries that `Matcher.encode` has encoded already.

        Args:
            queries: unit vectors, shape (q, d).
            top_k: most matches per query; None for all.
            score_cutoff: leave out matches that score below it; None for none.

        Raises:
            ConfigError: ``top_k`` is less than 1, or the shape is another one.
        """
        content = self._content
        if queries.ndim != 2 or queries.shape[1] != content.vectors.shape[1]:
            raise ConfigError(
                f"queries have the shape {queries.shape}; expected (number of queries, {content.vectors.shape[1]})"
            )
        ranking = Ranking(self._matcher.manifest.calibration, top_k, score_cutoff)
        return (matches(found, content.texts) for found in search(queries, content.used, ranking))

    def _rank(self, distinct: DistinctTexts, top_k: int | None, score_cutoff: float | None) -> Iterator[list[Match]]:
        queries = self._matcher.encode_distinct(distinct)[distinct.index]
        return self.rank_vectors(queries, top_k=top_k, score_cutoff=score_cutoff)
