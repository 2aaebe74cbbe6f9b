"""An evaluation report of random scores, written as `flipkd evaluate --report` writes it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from tiny import TEXTS

from flipkd_sdk.artifact.manifest import Manifest, ModelReference, read_manifest
from flipkd_sdk.cli.evaluation.comparison import Scoring, compare, measure
from flipkd_sdk.cli.evaluation.report import report_html
from flipkd_sdk.evaluation.behaviour import Behaviour, FailedPair, KindBehaviour
from flipkd_sdk.pairs import Pairs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COUNT = 400
THRESHOLD = 0.43217


def scores(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and labels that rise with each other."""
    random = np.random.default_rng(seed)
    label = np.random.default_rng(9).integers(0, 2, COUNT).astype(np.int8)
    probability = 1 / (1 + np.exp(-(3 * label - 1.5 + random.normal(0, 1.4, COUNT))))
    return probability.astype(np.float32), label


def write_report(path: Path, matcher: Path, texts: Sequence[str] = TEXTS, name: str = "faq-matcher") -> None:
    """Write a report with all its sections; ``texts`` occur as texts, ``name`` as every name."""
    manifest = _named(read_manifest(matcher), name)
    systems = []
    for i, called in enumerate((name, f"{name}-new")):
        probability, label = scores(i)
        systems.append(Scoring(called, "int8", "cpu", THRESHOLD, probability, manifest))
    a = tuple(texts[i % len(texts)] for i in range(COUNT))
    b = tuple(texts[(i * 7 + 3) % len(texts)] for i in range(COUNT))
    pairs = Pairs(a, b, label)
    failures = tuple(FailedPair(text, text, 0.9) for text in texts[:3])
    behaviour = Behaviour(THRESHOLD, (KindBehaviour(name, 0, 40, 31, failures),), None)
    measured = measure(systems[0], label, resamples=50, seed=0)
    comparison = compare(*systems, pairs, resamples=50, seed=0)
    html = report_html(f"{name}.csv", pairs, systems, measured, comparison, {"--seed": name}, behaviour=behaviour)
    path.write_bytes(html.encode())


def _named(manifest: Manifest, name: str) -> Manifest:
    return replace(manifest, student=ModelReference(name, "0", "MIT"), teacher=ModelReference(name, "0", "MIT"))
