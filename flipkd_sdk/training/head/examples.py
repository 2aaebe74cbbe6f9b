"""Training examples of the pair head: labels, the teacher's opinion of further pairs, and contrast pairs."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.contrast import ContrastSet, contrast_pairs, detect_language, load_pack
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.evaluation import calibration
from flipkd_sdk.evaluation.encoders import encoder_cosines
from flipkd_sdk.pair_head.cues import CueReader, pair_cues, same_form, weight_of_head
from flipkd_sdk.training.head.siblings import keyword_pairs, sibling_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.contrast import ContrastPair, LanguagePack
    from flipkd_sdk.evaluation.calibration import Calibration
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import ContrastConfig, HeadConfig

    Encode = Callable[[Sequence[str]], NDArray[np.float32]]

logger = logging.getLogger("flipkd_sdk")

_NEAREST = 40
"""Neighbours of a text among which the teacher is asked."""
_UNSURE = (0.15, 0.85)
"""Match probabilities of the teacher between which a pair is worth a question of its own."""
_FORM, _SURFACE = 0.8, 0.95
"""Match probability of a copy with another form, and of one that differs in case, spaces and punctuation alone. The
former is lower than that of a paraphrase: a change that the head does not notice in two texts that look alike must not
put them above texts that mean the same in other words."""
_OFTEN = {"negation": 4, "typo": 4, "negation_form": 2, "contraction": 2, "politeness": 2, "role": 2, "wording": 3}
"""Kinds of which so many times as many pairs are made, because they are worded in more ways than others. Typing errors
must outweigh all words that are exchanged."""
_PARTNERS = 2
"""Labelled matches of a text that its changed copy is compared with."""
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


def language_pack(config: ContrastConfig, texts: Sequence[str]) -> LanguagePack | None:
    """Return the language pack to make contrast pairs with, or None for none.

    Unknown languages have no pack, which is reported once.
    """
    if config.language == "none":
        return None
    language = detect_language(texts) if config.language == "auto" else config.language
    if language is None:
        logger.warning("no language pack for these texts, so no contrast pairs; name one as contrast.language")
        return None
    return load_pack(Path(language) if Path(language).suffix else language)


def cue_reader(pack: LanguagePack | None) -> CueReader:
    """Return what reads the cues of texts in the language of a pack."""
    return CueReader() if pack is None else CueReader(pack.negators, pack.numbers.values)


def build_examples(
    head: HeadConfig,
    pack: LanguagePack | None,
    per_kind: int,
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
        pack: rules of contrast pairs; None makes none.
        per_kind: most contrast pairs of each kind.
        train: labelled pairs.
        texts: texts of the train pairs, and unlabelled ones, to make pairs of; those that are encoded.
        teacher: whose opinion further pairs get; None leaves them out.
        encode: maps words to unit vectors, to find related ones.
        seed: of all draws.

    Raises:
        InvalidPairsError: the head would be asked about none of the pairs.
    """
    matches = train.matches
    made = _contrast(pack, per_kind, texts, matches, seed)
    siblings = sibling_pairs(texts, encode, count=head.sibling_pairs, seed=seed)
    keywords = keyword_pairs(texts, count=head.sibling_pairs // 3, seed=seed)
    across = _across(made, matches)
    reader = cue_reader(pack)
    changed = [(pair.text_a, pair.text_b) for pair in made.pairs] + siblings + keywords
    changed += [pair for pair, _ in across]
    labels = [_form_target(pair, reader) for pair in made.pairs] + [0.0] * len(siblings)
    labels += [_FORM] * len(keywords)
    labels += [label for _, label in across]
    sources = [
        Source("labels", list(zip(train.a, train.b, strict=True)), train.label.astype(np.float32), head.labels_weight),
        Source("contrast", changed, np.array(labels, np.float32), head.contrast_weight),
    ]
    if teacher is not None:
        asked, opinion = teacher.of_pairs(texts, count=head.teacher_pairs, seed=seed)
        sources.append(Source("teacher", asked, opinion, head.teacher_weight))
    sources = [decided for source in sources if source.weight and (decided := _decided(source, reader)).pairs]
    if not sources:
        raise InvalidPairsError("no pair of texts shares enough words for a head to learn from")
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


def _decided(source: Source, reader: CueReader) -> Source:
    """Return the examples that the head is asked about: the others would teach it nothing.

    The weight of labels and contrast pairs stays, the teacher's shrinks with its examples.
    """
    cues = [(reader(a), reader(b)) for a, b in source.pairs]
    rows = np.flatnonzero(weight_of_head(pair_cues([a for a, _ in cues], [b for _, b in cues])))
    share = len(rows) / max(len(source.pairs), 1) if source.name == "teacher" else 1.0
    return Source(source.name, [source.pairs[i] for i in rows], source.target[rows], source.weight * share)


def _look_alike(a: str, b: str) -> bool:
    """Return True if two texts share most words: there a teacher that pools does not see what differs."""
    one, other = set(_WORD.findall(a.casefold())), set(_WORD.findall(b.casefold()))
    return len(one & other) > _SHARED * len(one | other)


def _form_target(pair: ContrastPair, reader: CueReader) -> float:
    if not pair.label:
        return 0.0
    return _SURFACE if same_form(reader(pair.text_a), reader(pair.text_b)) else _FORM


def _across(made: ContrastSet, matches: Sequence[tuple[str, str]]) -> list[tuple[tuple[str, str], float]]:
    """Return changed texts beside what the unchanged ones match, so that a change counts in other words too."""
    partners: dict[str, list[str]] = {}
    for a, b in matches:
        partners.setdefault(a, []).append(b)
        partners.setdefault(b, []).append(a)
    found = []
    for pair in made.pairs:
        for text, changed in ((pair.text_a, pair.text_b), (pair.text_b, pair.text_a)):
            found += [((changed, other), float(pair.label)) for other in partners.get(text, ())[:_PARTNERS]]
    return found


def _contrast(
    pack: LanguagePack | None, per_kind: int, texts: Sequence[str], matches: list[tuple[str, str]], seed: int
) -> ContrastSet:
    if pack is None or not per_kind:
        return ContrastSet((), 0)
    sets = []
    for times in sorted({1, *_OFTEN.values()}):
        kinds = [kind for kind in pack.labels if _OFTEN.get(kind, 1) == times]
        if kinds:
            most = times * per_kind
            sets.append(
                contrast_pairs(
                    texts, pack, per_kind=most, seed=seed, labelled_matches=matches, kinds=kinds, details=True
                )
            )
    made = ContrastSet(tuple(pair for part in sets for pair in part.pairs), sum(part.left_out for part in sets))
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
