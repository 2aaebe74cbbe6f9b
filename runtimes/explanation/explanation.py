"""`Explanation`: contributions of words to the score of two texts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNALIGNED = 0.5
"""Share of a word's alignment with no word from which on it has no partner."""


class Word(NamedTuple):
    """A word of a text."""

    text: str
    """Empty for tokens that the tokenizer adds."""
    start: int
    """Index of its first character."""
    end: int
    """Index after its last character."""


class WordPair(NamedTuple):
    """A word of each text and their contribution."""

    a: int
    """Index in `Explanation.words_a`."""
    b: int
    """Index in `Explanation.words_b`."""
    contribution: float


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """View of the pair head: the words that it aligned. Shares of a word are at most 1 in sum."""

    a_to_b: NDArray[np.float32]
    """Share of each word of a that is aligned with each word of b, shape (words of a, words of b)."""
    b_to_a: NDArray[np.float32]
    """Share of each word of b that is aligned with each word of a, shape (words of b, words of a)."""
    alone_a: NDArray[np.float32]
    """Share of each word of a that is aligned with no word, shape (words of a,)."""
    alone_b: NDArray[np.float32]
    """Share of each word of b that is aligned with no word, shape (words of b,)."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Explanation:
    """Contributions of words to the cosine of two texts, made by `Matcher.explain`.

    ``baseline + contributions.sum()`` is ``cosine`` (within 1e-6).
    """

    a: str
    b: str
    score: float
    """Match probability, as `Matcher.score` returns it."""
    threshold: float
    """Score from which on a pair is a match."""
    cosine: float
    """Cosine of the two vectors."""
    baseline: float
    """Part of the cosine that both texts share with the background; 0 without one."""
    words_a: tuple[Word, ...]
    """Words of a, as far as the matcher reads it."""
    words_b: tuple[Word, ...]
    """Words of b, as far as the matcher reads it."""
    contributions: NDArray[np.float64]
    """Contribution of each word of a with each word of b, shape (words of a, words of b)."""
    alignment: Alignment | None
    """View of the pair head; None without one."""

    @property
    def match(self) -> bool:
        """Return True if the score reaches the threshold."""
        return self.score >= self.threshold

    @property
    def contributions_a(self) -> NDArray[np.float64]:
        """Return the contribution of each word of a, shape (words of a,)."""
        return np.asarray(self.contributions.sum(axis=1))

    @property
    def contributions_b(self) -> NDArray[np.float64]:
        """Return the contribution of each word of b, shape (words of b,)."""
        return np.asarray(self.contributions.sum(axis=0))

    @property
    def unaligned_a(self) -> tuple[Word, ...]:
        """Return the words of a that the pair head aligned with none; empty without a head."""
        return () if self.alignment is None else _alone(self.words_a, self.alignment.alone_a)

    @property
    def unaligned_b(self) -> tuple[Word, ...]:
        """Return the words of b that the pair head aligned with none; empty without a head."""
        return () if self.alignment is None else _alone(self.words_b, self.alignment.alone_b)

    def __repr__(self) -> str:
        figures = f"score={self.score:.3f}, match={self.match}, cosine={self.cosine:.3f}"
        return f"<Explanation {self.a!r} · {self.b!r}: {figures}>"

    def strongest(self, count: int) -> list[WordPair]:
        """Return the pairs of words with the largest contributions of either sign, largest first."""
        order = np.argsort(-np.abs(self.contributions), axis=None, kind="stable")[:count]
        indices = (np.unravel_index(int(flat), self.contributions.shape) for flat in order)
        return [WordPair(int(i), int(j), float(self.contributions[i, j])) for i, j in indices]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as values that JSON can represent."""
        alignment = self.alignment
        return {
            "a": self.a,
            "b": self.b,
            "score": self.score,
            "threshold": self.threshold,
            "match": self.match,
            "cosine": self.cosine,
            "baseline": self.baseline,
            "words_a": [word._asdict() for word in self.words_a],
            "words_b": [word._asdict() for word in self.words_b],
            "contributions": self.contributions.tolist(),
            "alignment": None
            if alignment is None
            else {name: values.tolist() for name, values in asdict(alignment).items()},
        }

    def to_text(self, count: int = 5) -> str:
        """Return the strongest pairs of words, and the words without a partner, in one line."""
        parts = [
            f"{_shown(self.words_a[pair.a])} ~ {_shown(self.words_b[pair.b])} {pair.contribution:+.3f}"
            for pair in self.strongest(count)
        ]
        if alone := [*self.unaligned_a, *self.unaligned_b]:
            parts.append("no partner: " + ", ".join(map(_shown, alone)))
        return "; ".join(parts)

    def to_html(self, *, styled: bool = True) -> str:
        """Return a fragment of HTML that needs no other file, with all texts escaped.

        Args:
            styled: include the stylesheet, which pages of ``flipkd_sdk`` have already.
        """
        from flipkd_sdk.runtimes.explanation.html import explanation_html

        return explanation_html(self, styled=styled)

    def _repr_html_(self) -> str:
        return self.to_html()


def _alone(words: tuple[Word, ...], shares: NDArray[np.float32]) -> tuple[Word, ...]:
    return tuple(word for word, share in zip(words, shares, strict=True) if share >= UNALIGNED and word.text)


def _shown(word: Word) -> str:
    return word.text or "(added token)"
