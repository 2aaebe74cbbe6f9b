"""Measures of texts and pairs that show a change of the domain: scores, lengths, unknown pieces, similarity."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from flipkd_sdk.artifact.profile import unknown_share
from flipkd_sdk.runtimes.encoding.inputs import distinct_of_pairs, distinct_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts
    from flipkd_sdk.runtimes.matcher import Matcher

T = TypeVar("T")

_WINDOW = 2048
"""Pairs or texts at a time: the tokens that a pair head reads take some kilobytes a text."""


@dataclass(slots=True)
class Measures:
    """Values of each measure, without those of blank texts."""

    score: list[float] = field(default_factory=list)
    """Number of each pair that the matcher's calibration maps to its score."""
    length: list[float] = field(default_factory=list)
    """Pieces of each distinct text."""
    unknown: list[float] = field(default_factory=list)
    """Share of each distinct text's pieces that are unknown; empty without known pieces."""
    similarity: list[float] = field(default_factory=list)
    """Similarity of each distinct text to the training texts; empty without their sketch."""
    texts: list[str] = field(default_factory=list)
    """The distinct texts that are not blank."""
    blank: int = 0
    """Number of distinct blank texts."""


def measure(
    matcher: Matcher,
    items: Iterable[str] | Iterable[tuple[str, str]],
    *,
    known: NDArray[np.uint8] | None,
    progress: Callable[[int], None] = lambda _done: None,
) -> Measures:
    """Measure pairs and their texts, or texts.

    Args:
        matcher: the matcher.
        items: pairs of texts, or texts.
        known: the known pieces, see `flipkd_sdk.artifact.profile`; None to leave unknown ones out.
        progress: called with the number of items done.
    """
    measures, seen, done = Measures(), set[str](), 0
    for window in _windows(items):
        paired = isinstance(window[0], tuple)
        distinct = distinct_of_pairs(window) if paired else distinct_texts(window)
        vectors = _score(matcher, distinct, measures) if paired else matcher.scorer.encode_distinct(distinct)
        new = [i for i, text in enumerate(distinct.texts) if text not in seen]
        seen.update(distinct.texts)
        blank = matcher.scorer.never_match(distinct.texts)
        measures.blank += int(blank[new].sum())
        kept = [i for i in new if not blank[i]]
        texts = [distinct.texts[i] for i in kept]
        measures.texts += texts
        tokens = matcher.scorer.opened().encoder.tokenizer.encode(texts)
        measures.length += [float(len(text.ids)) for text in tokens]
        if known is not None:
            measures.unknown += [unknown_share(known, text.ids) for text in tokens]
        if matcher.manifest.familiarity is not None:
            measures.similarity += matcher.scorer.sketch.similarity(vectors[kept]).tolist()
        done += len(window)
        progress(done)
    return measures


def piece_ids(matcher: Matcher, texts: Iterable[str]) -> Iterator[NDArray[np.uint32]]:
    """Yield the token ids of each text."""
    for window in _windows(texts):
        yield from (text.ids for text in matcher.scorer.opened().encoder.tokenizer.encode(window))


def _score(matcher: Matcher, distinct: DistinctTexts, measures: Measures) -> NDArray[np.float32]:
    """Append the scores of pairs without a blank text and return the vectors of all texts."""
    scorer = matcher.scorer
    encoded = scorer.encode_pairs(distinct)
    a, b = distinct.index[0::2], distinct.index[1::2]
    blank = scorer.never_match(distinct.texts)
    kept = ~(blank[a] | blank[b])
    measures.score += scorer.pair_values(distinct.texts, encoded, a[kept], b[kept]).tolist()
    return encoded.vectors


def _windows(items: Iterable[T]) -> Iterator[Sequence[T]]:
    remaining = iter(items)
    while window := list(islice(remaining, _WINDOW)):
        yield window
