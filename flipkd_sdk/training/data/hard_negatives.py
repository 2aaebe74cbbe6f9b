"""Hard negatives: texts of the user that the teacher finds close to one of theirs, but not as close as a match."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from flipkd_sdk.pairs import Pairs, group_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flipkd_sdk.training.config.schema import MiningConfig
    from flipkd_sdk.training.data.datasets import Corpus

logger = logging.getLogger("flipkd_sdk")


def mine_negatives(corpus: Corpus, train: Pairs, config: MiningConfig) -> Pairs:
    """For each first text of a labelled match, the closest texts of the corpus that are no match of it.

    Left out are texts that stand in a labelled pair with it, or that labelled matches link with it; near-duplicates,
    which the teacher sees at or above the ceiling from it or from one of those; and texts that differ from one of them
    in case, spaces and punctuation alone.

    Args:
        corpus: all texts with the teacher's vectors; none of the development and test pairs.
        train: the labelled train pairs.
        config: how many, and how close.

    Returns:
        Pairs with label 0.
    """
    if corpus.teacher is None or not config.negatives:
        return train.take([])
    texts = list(corpus.position)
    vectors = corpus.teacher[: len(texts)].numpy()
    ceiling = config.ceiling
    if ceiling is None:
        ceiling = float(np.quantile(_match_cosines(corpus, vectors, train), config.ceiling_quantile))
    related, labelled = _known(train)
    plain = np.array([_plain(text) for text in texts])
    found: dict[tuple[str, str], None] = {}
    anchors = dict.fromkeys(a for a, label in zip(train.a, train.label, strict=True) if label)
    for anchor in tqdm(anchors, desc="mining negatives", unit="text", disable=None, leave=False):
        family = [anchor, *(related[anchor] - {anchor})]
        cosines = vectors @ vectors[[corpus.position[text] for text in family]].T
        possible = (cosines < ceiling).all(axis=1) & ~np.isin(plain, [_plain(text) for text in family])
        possible[[corpus.position[text] for text in labelled[anchor]]] = False
        order = np.argsort(-cosines[:, 0], kind="stable")
        for i in order[possible[order]][: config.negatives]:
            if (texts[i], anchor) not in found:
                found[anchor, texts[i]] = None
    if not found:
        logger.warning("no hard negatives found below a teacher cosine of %.3f; raise mining.ceiling", ceiling)
        return train.take([])
    a, b = zip(*found, strict=True)
    return Pairs(a, b, np.zeros(len(found), np.int8))


def join(train: Pairs, mined: Pairs) -> Pairs:
    """The labelled pairs, then the mined ones."""
    if not len(mined):
        return train
    return Pairs(train.a + mined.a, train.b + mined.b, np.concatenate([train.label, mined.label]))


def _match_cosines(corpus: Corpus, vectors: NDArray[np.float32], train: Pairs) -> NDArray[np.float32]:
    matches = train.take(np.flatnonzero(train.label == 1))
    a, b = (vectors[[corpus.position[text] for text in side]] for side in (matches.a, matches.b))
    return np.einsum("ij,ij->i", a, b)  # type: ignore[no-any-return]


def _known(train: Pairs) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """By text: those that labelled matches link with it, itself included, and those of its labelled pairs."""
    matches = train.take(np.flatnonzero(train.label == 1))
    members: dict[int, set[str]] = defaultdict(set)
    related: dict[str, set[str]] = {}
    for a, b, group in zip(matches.a, matches.b, group_numbers(matches).tolist(), strict=True):
        members[group] |= {a, b}
        related[a] = related[b] = members[group]
    labelled: dict[str, set[str]] = defaultdict(set)
    for a, b in zip(train.a, train.b, strict=True):
        labelled[a].add(b)
        labelled[b].add(a)
    return related, labelled


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))
