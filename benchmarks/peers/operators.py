"""Time of a matcher by operator, from onnxruntime's profiler.

The texts are those of `make bench`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
from environment import RESULTS, THREADS, data_folder
from peers.workloads import FILES, load_workloads

from flipkd_sdk.runtimes.encoding.inputs import distinct_texts
from flipkd_sdk.runtimes.load import LoadOptions, open_matcher
from flipkd_sdk.runtimes.onnx.onnxruntime_import import load_onnxruntime
from flipkd_sdk.runtimes.onnx.session import EncoderSession, session_options

SHOWN = 12
"""Number of operators with their own row."""


def profile(directory: Path, precision: str, texts: list[str], working: Path) -> dict[str, Any]:
    """Encode the texts as `Matcher` does, and return the time by kind of operator."""
    opened = open_matcher(directory, LoadOptions(device="cpu", precision=precision, threads=THREADS))
    onnxruntime = load_onnxruntime()
    options = session_options(onnxruntime, THREADS)
    options.enable_profiling = True
    options.profile_file_prefix = str(working / "profile")
    file = directory / opened.manifest.variant(precision).file
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    encoder = opened.encoder
    encoder.session = EncoderSession(session, "cpu")
    start = time.perf_counter()
    encoder.encode(distinct_texts(texts))
    seconds = time.perf_counter() - start
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    spent: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
    return {
        "matcher": directory.name,
        "precision": precision,
        "texts": len(texts),
        "seconds": seconds,
        "operators": {name: dur / 1e6 / seconds for name, dur in spent.most_common()},
    }


def table(found: dict[str, Any]) -> str:
    """Return the shares of the total time as Markdown; the rest is tokenization, padding and onnxruntime itself."""
    operators = list(found["operators"].items())
    rows = operators[:SHOWN]
    rows.append((f"{len(operators) - SHOWN} others", sum(share for _, share in operators[SHOWN:])))
    rows.append(("outside of operators", 1 - sum(found["operators"].values())))
    head = f"{found['matcher']} {found['precision']}, {found['texts']:,} texts in {found['seconds']:.1f} s"
    return "\n".join(
        [f"| {head} | of the time |", "|---|---:|", *(f"| {name} | {share:.1%} |" for name, share in rows)]
    )


@click.command("operators")
@click.argument("matchers", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--precision", default="int8", show_default=True)
def main(matchers: tuple[Path, ...], precision: str) -> None:
    """Profile MATCHERS and write results/operators.json and .md."""
    texts = load_workloads(data_folder(FILES), 1.0).texts
    with tempfile.TemporaryDirectory() as working:
        found = [profile(directory.absolute(), precision, texts, Path(working)) for directory in matchers]
    text = "\n\n".join(map(table, found)) + "\n"
    (RESULTS / "operators.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "operators.md").write_text(text, encoding="utf-8")
    click.echo(text)
