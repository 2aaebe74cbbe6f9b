"""Search threshold of a new matcher, fitted on searches among the development texts of its run.

Each development text is searched among the others. Texts are right answers if matches link them, directly or through
other texts. Every text is searched again without its right answers: it should then get none.

Labels cover few of all pairs, so a text that they do not relate to the query may be a match as well. If the teacher
is certain that it is one, it is left out of the search; otherwise it counts as a wrong answer.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.artifact.recalibration import with_search
from flipkd_sdk.errors import ConfigError, ModelSourceError
from flipkd_sdk.evaluation.calibration import choose_threshold
from flipkd_sdk.evaluation.encoders import vector_cosines
from flipkd_sdk.evaluation.searches import cautious_search_threshold, search
from flipkd_sdk.pairs import group_numbers
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.training.models.sources import resolve
from flipkd_sdk.training.models.teacher import load_teacher

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.artifact.manifest import Manifest
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.run_directory import FinishedRun

logger = logging.getLogger("flipkd_sdk.exporters")

_MOST_TEXTS = 2000


def add_search_threshold(
    manifest: Manifest, working: Path, run: FinishedRun | None, dev: Pairs, *, precision: float = 0.95
) -> Manifest:
    """Return the manifest with search thresholds for the scores of the cosine and of the pair head, if possible.

    Args:
        manifest: of the finished variants; written in the working directory.
        working: the working directory.
        run: whose teacher has an opinion of unlabelled pairs; None if nothing was distilled.
        dev: development pairs.
        precision: least share of right answers.
    """
    texts, intent, open_pairs = _intents(dev, _teacher_vectors(run, dev), precision)
    members: dict[int, list[int]] = defaultdict(list)
    for i, number in enumerate(intent.tolist()):
        members[number].append(i)
    with_answer = [i for i, number in enumerate(intent.tolist()) if len(members[number]) > 1]
    queries = [*with_answer, *range(len(texts))]
    left_out = [
        [i, *open_pairs[i], *(() if n < len(with_answer) else members[int(intent[i])])] for n, i in enumerate(queries)
    ]
    logger.info("searching %d development texts", len(texts))
    with Matcher.load(working, device="cpu", on_truncate="ignore") as matcher:
        found = search(matcher, [texts[i] for i in queries], texts, left_out)
    thresholds = {}
    for name, best in (("cosine", found.cosine), ("head", found.head)):
        if best is not None:
            right = (intent[best.index] == intent[queries]) & (best.score >= 0)
            thresholds[name] = cautious_search_threshold(best.score, right, precision=precision)
    if None in thresholds.values():
        logger.warning("no search threshold: there are too few development texts; fit one with 'flipkd calibrate'")
    return with_search(manifest, cosine=thresholds["cosine"], head=thresholds.get("head"))


def _intents(
    dev: Pairs, teacher: NDArray[np.float32] | None, precision: float
) -> tuple[list[str], NDArray[np.int64], list[list[int]]]:
    """Return texts, the number of each one's linked group, and per text those that only the teacher takes for matches.

    Args:
        dev: development pairs.
        teacher: the teacher's vectors of ``dev.texts``; None without a teacher.
        precision: of the teacher's matches on the development pairs; its less certain opinions do not count.
    """
    matches = dev.take(np.flatnonzero(dev.label))
    group = group_numbers(matches).tolist()
    number = dict(zip((*matches.a, *matches.b), (*group, *group), strict=True))
    for text in dev.texts:
        number.setdefault(text, len(number) + len(group))
    known = {(number[a], number[b]) for a, b in zip(dev.a, dev.b, strict=True)}
    texts = list(dev.texts)
    kept = np.sort(np.random.default_rng(0).permutation(len(texts))[:_MOST_TEXTS])
    chosen = [texts[i] for i in kept]
    intent = np.array([number[text] for text in chosen], np.int64)
    least = None if teacher is None else _certain(vector_cosines(teacher, dev), dev, precision)
    if teacher is None or least is None:
        return chosen, intent, [[] for _ in chosen]
    near = teacher[kept] @ teacher[kept].T >= least
    open_pairs = [
        [
            j
            for j in np.flatnonzero(row).tolist()
            if intent[i] != intent[j] and not {(intent[i], intent[j]), (intent[j], intent[i])} & known
        ]
        for i, row in enumerate(near)
    ]
    return chosen, intent, open_pairs


def _certain(cosine: NDArray[np.float32], dev: Pairs, precision: float) -> float | None:
    """Return the lowest cosine of the teacher whose matches are right often enough, or None if there is none."""
    try:
        return choose_threshold(cosine, dev.label, objective=f"precision>={precision!r}")
    except ConfigError:
        return None


def _teacher_vectors(run: FinishedRun | None, dev: Pairs) -> NDArray[np.float32] | None:
    """Return the teacher's vectors of the development texts, or None if it encodes none or is no longer there."""
    if run is None or run.config.teacher.kind != "encoder":
        return None
    options = run.config.teacher
    own = run.directory / "teacher"
    try:
        source = resolve(str(own) if own.is_dir() else options.source)
        return load_teacher(source, options.max_length, prompt=options.prompt).encode(dev.texts)
    except ModelSourceError as error:
        logger.info("the teacher has no opinion of unlabelled pairs: %s", error)
        return None
