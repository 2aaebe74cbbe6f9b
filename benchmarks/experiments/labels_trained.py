"""Do chosen labels pay in training? 300 labels of ``flipkd label`` against 450 random ones, answers from mqp's file.

Each label set trains as a user's file does: it fine-tunes the teacher, which teaches a short student with the texts of
mqp's train pairs. The development pairs are the same for all sets: they choose the epochs.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import click
from environment import RESULTS, data_folder, environment
from experiments.inputs import write_texts
from experiments.labels import ENCODER, label_sets
from experiments.runner import PACKAGES, call

from flipkd_sdk.pairs import read_pairs, write_pairs
from flipkd_sdk.training.models.sources import default_cache_dir

if TYPE_CHECKING:
    from collections.abc import Mapping

SHORT: dict[str, object] = {
    "student.layer": 3,
    "student.mlp_width": 960,
    "alignment.epochs": 1,
    "alignment.fewest_texts": 0,
    "labels.epochs": 2,
    "head.enabled": False,
}
"""Options of the short student: three narrow blocks, one epoch over the texts."""
_MEASURED = ("teacher", "student")


@click.command("labels-trained")
@click.option("--chosen", default=300, show_default=True)
@click.option("--random", "drawn", default=450, show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), help="Folder of label sets and runs.")
@click.option("--results", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS / "labels-trained.json")
def labels_trained(chosen: int, drawn: int, seeds: int, work: Path | None, results: Path) -> None:
    """Train a teacher and a short student on each label set, and compare their average precision on mqp's test pairs.

    Each training is written to the results as it ends. A stopped command continues, within a training as well.
    """
    data = data_folder(["mqp/train.csv", "mqp/dev.csv", "mqp/test.csv"]) / "mqp"
    folder = (work or default_cache_dir() / "labels-trained").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    texts = folder / "texts.csv"
    write_texts(texts, read_pairs(data / "train.csv").texts)
    found: dict[str, Any] = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    runs = found.get("runs", {})
    for kind, seed, pairs in label_sets(data, chosen, drawn, seeds):
        name = f"{kind}-{seed}"
        path = folder / f"{name}-{len(pairs)}.csv"
        write_pairs(pairs, path)
        options = {
            "data.pairs": str(path),
            "data.dev": str(data / "dev.csv"),
            "data.test": str(data / "test.csv"),
            "data.texts": str(texts),
            "teacher.source": ENCODER,
            "seed": seed,
            **SHORT,
        }
        digest = hashlib.sha256(path.read_bytes() + json.dumps(SHORT).encode()).hexdigest()[:12]
        if runs.get(name, {}).get("digest") == digest:
            continue
        run = folder / f"{name}-{digest}"
        settings = [f"--set={option}={json.dumps(value)}" for option, value in options.items()]
        if code := call("train", "--out", run, "--resume", *settings):
            raise click.ClickException(f"{name}: flipkd train ended with {code}")
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
        runs[name] = {
            "digest": digest,
            "labels": len(pairs),
            **{system: result["measures"][system]["test"]["average_precision"] for system in _MEASURED},
            "seconds": result["seconds"],
        }
        _write(results, runs)
    _write(results, runs)
    click.echo(results.read_text(encoding="utf-8"))


def _write(results: Path, runs: Mapping[str, dict[str, Any]]) -> None:
    """Write the runs so far, with the mean of each kind over the seeds that both have."""
    seeds = [name.removeprefix("chosen-") for name in runs if name.startswith("chosen-")]
    both = [seed for seed in seeds if f"random-{seed}" in runs]
    means = {
        system: {kind: mean(runs[f"{kind}-{seed}"][system] for seed in both) for kind in ("chosen", "random")}
        for system in _MEASURED
        if both
    }
    content = {
        "command": "python benchmarks labels-trained",
        "options": SHORT,
        "runs": runs,
        "seeds": len(both),
        "mean_average_precision_on_test": means,
        "target": "the student of chosen labels at least as good as that of random ones, mean of three seeds",
        "met": len(both) >= 3 and means["student"]["chosen"] >= means["student"]["random"],
        "environment": environment(PACKAGES),
    }
    results.parent.mkdir(parents=True, exist_ok=True)
    unfinished = results.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(results)
