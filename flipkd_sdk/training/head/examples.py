"""Training examples of the pair head: labels, the teacher's opinion of further pairs, and contrast pairs."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.contrast import ContrastSet, contrast_pairs, detect_language, load_pack
from flipkd_sdk.evaluation import calibration
from flipkd_sdk.evaluation.encoders import encoder_cosines
from flipkd_sdk.pair_head.cues import cues_of
from flipkd_sdk.training.head.siblings import sibling_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.contrast import ContrastPair
    from flipkd_sdk.evaluation.calibration import Calibration
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import ContrastConfig, HeadConfig

    Encode = Callable[[Sequence[str]], NDArray[np.float32]]

logger = logging.getLogger("flipkd_sdk")

_NEAREST = 40
"""Neighbours of a text among which the teacher is asked."""
_UNSURE = (0.15, 0.85)
"""Match probabilities of the teacher between which a pair is worth a question of its own."""
_FORM, _SURFACE = 0.7, 0.95
"""Match probability of a copy with another form, and of one that differs in case, spaces and punctuation alone. The
former is lower than that of a paraphrase: a change that the head does not notice in two texts that look alike must not
put them above texts that mean the same in other words."""
_IDENTICAL = 200
_WORD = re.compile(r"\w+")
_SHARED = 0.5
"""Share of common words from which on the teacher is not asked."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Pairs of texts with the match probability that the head is to give them."""

    a: list[str]
    b: list[str]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]
    """Shape (n,), mean 1."""
    natural: NDArray[np.bool_]
    """True for labelled pairs and the teacher's opinions, which the cosine is good at, shape (n,)."""
    counts: dict[str, int]
    """Examples by source."""
    contrast: ContrastSet


@dataclass(frozen=True, slots=True)
class Source:
    """Examples of one source."""

    name: str
    pairs: list[tuple[str, str]]
    target: NDArray[np.float32]
    weight: float
    """Weight of all examples of the source together."""


def language_of(config: ContrastConfig, texts: Sequence[str]) -> str | None:
    """Return the language pack to make contrast pairs with, a name or a file, or None for none.

    Unknown languages have no pack, which is reported once.
    """
    if config.language == "none" or not config.pairs_per_kind:
        return None
    if config.language != "auto":
        return config.language
    language = detect_language(texts)
    if language is None:
        logger.warning("no language pack for these texts, so no contrast pairs; name one as contrast.language")
    return language


def build_examples(
    head: HeadConfig,
    contrast: ContrastConfig,
    train: Pairs,
    texts: Sequence[str],
    teacher: Opinion | None,
    encode: Encode,
    *,
    seed: int,
) -> Examples:
    """Collect the examples of all sources.

    Args:
        head: weights and numbers.
        contrast: how contrast pairs are made.
        train: labelled pairs.
        texts: texts of the train pairs, and unlabelled ones, to make pairs of; those that are encoded.
        teacher: whose opinion further pairs get; None leaves them out.
        encode: maps words to unit vectors, to find related ones.
        seed: of all draws.
    """
    matches = [(a, b) for a, b, label in zip(train.a, train.b, train.label, strict=True) if label]
    made = _contrast(contrast, texts, matches, seed)
    siblings = sibling_pairs(texts, encode, count=head.sibling_pairs, seed=seed)
    changed = [(pair.text_a, pair.text_b) for pair in made.pairs] + siblings
    labels = [_form_target(pair) for pair in made.pairs] + [0.0] * len(siblings)
    some = np.random.default_rng(seed).permutation(len(texts))[:_IDENTICAL]
    sources = [
        Source("labels", list(zip(train.a, train.b, strict=True)), train.label.astype(np.float32), head.labels_weight),
        Source("contrast", changed, np.array(labels, np.float32), head.contrast_weight),
        Source("identical", [(texts[i], texts[i]) for i in some], np.ones(len(some), np.float32), 0.05),
    ]
    if teacher is not None:
        asked, opinion = teacher.of_pairs(texts, count=head.teacher_pairs, seed=seed)
        sources.append(Source("teacher", asked, opinion, head.teacher_weight))
    sources = [source for source in sources if source.pairs and source.weight]
    pairs = [pair for source in sources for pair in source.pairs]
    total = sum(source.weight for source in sources)
    weight = [np.full(len(s.pairs), s.weight / total * len(pairs) / len(s.pairs), np.float32) for s in sources]
    return Examples(
        [a for a, _ in pairs],
        [b for _, b in pairs],
        np.concatenate([source.target for source in sources]),
        np.concatenate(weight),
        np.repeat([source.name in ("labels", "teacher") for source in sources], [len(s.pairs) for s in sources]),
        {source.name: len(source.pairs) for source in sources},
        made,
    )


def _look_alike(a: str, b: str) -> bool:
    """Return True if two texts share most words: there a teacher that pools does not see what differs."""
    one, other = set(_WORD.findall(a.casefold())), set(_WORD.findall(b.casefold()))
    return len(one & other) > _SHARED * len(one | other)


def _form_target(pair: ContrastPair) -> float:
    if not pair.label:
        return 0.0
    return _SURFACE if cues_of(pair.text_a) == cues_of(pair.text_b) else _FORM


def _contrast(config: ContrastConfig, texts: Sequence[str], matches: list[tuple[str, str]], seed: int) -> ContrastSet:
    language = language_of(config, texts)
    if language is None:
        return ContrastSet((), 0)
    pack = load_pack(Path(language) if Path(language).suffix else language)
    made = contrast_pairs(texts, pack, per_kind=config.pairs_per_kind, seed=seed, labelled_matches=matches)
    logger.info(
        "contrast pairs: %d of %d kinds; %d left out as labelled matches", len(made), len(made.counts), made.left_out
    )
    return made


@dataclass(frozen=True, slots=True, eq=False)
class Opinion:
    """The teacher's match probability of any two texts."""

    encode: Encode
    """Maps texts to the teacher's unit vectors."""
    calibration: Calibration

    @classmethod
    def fitted(cls, encode: Encode, dev: Pairs) -> Opinion:
        """Calibrate a teacher on the development pairs.

        Raises:
            InvalidPairsError: its cosine does not rise with their label.
        """
        return cls(encode, calibration.fit(encoder_cosines(encode, dev), dev.label))

    def of_pairs(
        self, texts: Sequence[str], *, count: int, seed: int
    ) -> tuple[list[tuple[str, str]], NDArray[np.float32]]:
        """Draw pairs of texts: near ones, strangers, and ones that the teacher is unsure of.

        Returns:
            The pairs and their match probabilities, shape (n,).
        """
        if len(texts) < 2 or not count:
            return [], np.zeros(0, np.float32)
        vectors = self.encode(texts)
        rng = np.random.default_rng(seed)
        found: dict[tuple[int, int], float] = {}
        order = np.concatenate([rng.permutation(len(texts)) for _ in range(-(-count // len(texts)))])
        for i in order.tolist():
            if len(found) >= count:
                break
            cosines = vectors @ vectors[i]
            cosines[i] = -1
            probability = self.calibration.probability(cosines)
            near = np.argsort(-cosines, kind="stable")[:_NEAREST]
            unsure = np.flatnonzero((probability > _UNSURE[0]) & (probability < _UNSURE[1]))
            chosen = [rng.choice(near[:8]), rng.choice(near), rng.integers(len(texts))]
            chosen += [rng.choice(unsure)] if len(unsure) else []
            for j in map(int, chosen):
                if i != j and not _look_alike(texts[i], texts[j]):
                    found[min(i, j), max(i, j)] = float(probability[j])
        return [(texts[i], texts[j]) for i, j in found], np.array(list(found.values()), np.float32)
