"""Figures of each system from its measurements: quality, ratios within each round, share of the machine's limit."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from peers.catalog import REFERENCE
from peers.graphs import linear_layers
from peers.quality import quality
from peers.sizes import file_bytes, installed_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from peers.scheduler import Measured
    from peers.systems import SystemSpec
    from peers.workloads import Workloads

Row = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """Target of an int8 matcher with a number of blocks."""

    figure: str
    layers: int
    limit: float
    at_most: bool = False

    def result(self, row: Row) -> Row | None:
        """Return the result for a row, or None if the figure was not measured."""
        value = row.get(self.figure)
        if value is None:
            return None
        met = value <= self.limit if self.at_most else value >= self.limit
        target = f"{'at most' if self.at_most else 'at least'} {self.limit:g}"
        return {"system": row["name"], "figure": self.figure, "value": value, "target": target, "met": met}


TARGETS = (
    Target("texts_speed_ratio", 6, 0.9),
    Target("texts_speed_ratio", 4, 1.25),
    Target("pair_p50_ratio", 6, 1.3, at_most=True),
    Target("share_of_limit", 6, 0.75),
    Target("share_of_limit", 4, 0.75),
)


def machine_limit(rates: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Return the median over rounds of the best shape's rate, in 10⁹ multiply-accumulates per second by precision."""
    limit = {kind: median(max(one[kind].values()) for one in rates) for kind in ("fp32", "int8")}
    by_shape = {
        kind: {shape: median(one[kind][shape] for one in rates) for shape in shapes}
        for kind, shapes in rates[0].items()
    }
    return {"gmac_per_second": limit, "by_shape": by_shape}


def results(
    measured: Sequence[Measured], work: Workloads, limit: Mapping[str, float], layers: Mapping[str, int]
) -> dict[str, Any]:
    """Return all figures; ratios are the median over rounds of the ratio within a round."""
    reference = next((one for one in measured if one.spec.name == REFERENCE and one.problem is None), None)
    rows = [_row(one, reference, work, limit) for one in measured]
    targets = [
        found
        for row in rows
        for target in TARGETS
        if layers.get(row["name"]) == target.layers and row["name"].endswith(" int8") and (found := target.result(row))
    ]
    return {"reference": REFERENCE, "systems": rows, "targets": targets}


def _row(one: Measured, reference: Measured | None, work: Workloads, limit: Mapping[str, float]) -> Row:
    spec = one.spec
    row: Row = {"name": spec.name, "tuned": spec.tuned, **_sizes(spec)}
    if one.problem is not None:
        return row | {"failed": one.problem}
    single = np.array([seconds for part in one.single_seconds for seconds in part])
    row |= {
        **quality(one, work),
        "pair_p50_ms": float(np.percentile(single, 50)) * 1e3,
        "pair_p99_ms": float(np.percentile(single, 99)) * 1e3,
        "faq_seconds": one.index_seconds + sum(one.nearest_seconds),
        "cold_start_seconds": median(one.cold_seconds),
        "resident_mb": median(one.cold_mb),
        "peak_mb": one.peak_mb,
        "note": one.note,
    }
    if one.texts_seconds:
        row |= {"texts_per_second": len(work.texts) / sum(one.texts_seconds)} | _machine_share(one, work, limit)
    if reference is not None:
        row |= {
            "pair_p50_ratio": _ratio(map(median, one.single_seconds), map(median, reference.single_seconds)),
            "faq_speed_ratio": _ratio(reference.nearest_seconds, one.nearest_seconds),
            "cold_start_ratio": median(one.cold_seconds) / median(reference.cold_seconds),
        }
        if one.texts_seconds:
            row["texts_speed_ratio"] = _ratio(reference.texts_seconds, one.texts_seconds)
    return row


def _ratio(above: Any, below: Any) -> float:
    return median(a / b for a, b in zip(above, below, strict=True))


def _sizes(spec: SystemSpec) -> Row:
    row: Row = {}
    try:
        row["installed_mb"] = installed_bytes(spec.distributions, without=spec.artifacts) / 1e6
    except importlib.metadata.PackageNotFoundError as error:
        row["installed_missing"] = error.name
    if spec.problem is None:
        row["model_mb"] = file_bytes(spec.artifacts) / 1e6
    return row


def _machine_share(one: Measured, work: Workloads, limit: Mapping[str, float]) -> Row:
    """Return the token rate and the share of the machine's limit that the linear layers reach.

    Padding counts as waste, like everything that is not a linear layer.
    """
    if one.spec.tokenizer is None:
        return {}
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(one.spec.tokenizer)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    lengths = np.array([len(encoded.ids) for encoded in tokenizer.encode_batch(work.texts)])
    read = np.minimum(lengths, one.spec.max_length)
    seconds = sum(one.texts_seconds)
    row: Row = {
        "tokens_per_second": int(read.sum()) / seconds,
        "tokens_per_text": float(read.mean()),
        "texts_cut_off": int((lengths > one.spec.max_length).sum()),
    }
    if one.spec.graph is not None:
        macs = linear_layers(Path(one.spec.graph)).total(int(read.sum()), len(work.texts))
        ideal = sum(count / (limit[kind] * 1e9) for kind, count in macs.items())
        row |= {
            "gmac_per_second": sum(macs.values()) / seconds / 1e9,
            "int8_part_of_macs": macs["int8"] / sum(macs.values()),
            "share_of_limit": ideal / seconds,
        }
    return row


COLUMNS = (
    ("AP", "average_precision", ".3f"),
    ("F1", "f1", ".3f"),
    ("texts/s", "texts_per_second", ",.0f"),
    ("speed ×", "texts_speed_ratio", ".2f"),
    ("tokens/s", "tokens_per_second", ",.0f"),
    ("of limit", "share_of_limit", ".0%"),
    ("pair p50 ms", "pair_p50_ms", ".2f"),
    ("p99 ms", "pair_p99_ms", ".2f"),
    ("p50 ×", "pair_p50_ratio", ".2f"),
    ("FAQ s", "faq_seconds", ".2f"),
    ("FAQ top-1", "faq_top1", ".3f"),
    ("start s", "cold_start_seconds", ".2f"),
    ("memory MB", "resident_mb", ",.0f"),
    ("peak MB", "peak_mb", ",.0f"),
    ("installed MB", "installed_mb", ",.0f"),
    ("model MB", "model_mb", ",.1f"),
)
"""Heading, figure and format."""


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of all systems; a failed one shows its reason instead of figures."""
    lines = [
        "| system | tuned | " + " | ".join(heading for heading, _, _ in COLUMNS) + " |",
        "|---|---|" + "---:|" * len(COLUMNS),
    ]
    for row in rows:
        cells = [format(row[figure], style) if figure in row else "–" for _, figure, style in COLUMNS]
        if "failed" in row:
            cells[0] = f"not measured: {row['failed']}".replace("|", "/")
        lines.append(f"| {row['name']} | {'yes' if row['tuned'] else 'no'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
