"""Searches in which one matcher proposes and another one decides: what they miss, and what they save."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from environment import RESULTS, THREADS, data_folder, environment

from flipkd_sdk import Matcher
from flipkd_sdk.evaluation.retrieval import read_intents
from flipkd_sdk.runtimes.linkage.link import link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flipkd_sdk.runtimes.search.match import Match

_PACKAGES = ("flipkd-sdk", "numpy", "onnxruntime", "tokenizers")
_TOP = 10
_CACHED = 8192
"""Texts whose vectors are kept, as on the command line."""


@click.command("tiers")
@click.argument("matcher", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("search", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--proposals", multiple=True, type=int, default=(10, 20, 50, 100), show_default=True)
@click.option("--scale", default=1.0, show_default=True, help="Share of the work, for a trial without meaning.")
@click.option("--results", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS / "tiers.json")
def main(matcher: Path, search: Path, proposals: Sequence[int], scale: float, results: Path) -> None:
    """Search banking77's test questions among its train questions with MATCHER, proposed by SEARCH.

    Recall is the share of MATCHER's own best answers that the two find together.
    """
    folder = data_folder(["banking77/train.csv", "banking77/test.csv"]) / "banking77"
    entries, queries = (_some(read_intents(folder / f"{name}.csv").texts, scale) for name in ("train", "test"))
    with _load(matcher) as deep:
        started = time.perf_counter()
        own = list(deep.candidates(entries).rank_many(queries, top_k=_TOP, rescore=max(proposals)))
        found: dict[str, Any] = {"alone": {"seconds": time.perf_counter() - started}}
    for count in proposals:
        # Opened anew, so that no vectors are cached.
        with _load(matcher) as deep, _load(search) as static:
            started = time.perf_counter()
            proposed = static.candidates(entries).decided_by(deep)
            ranked = list(proposed.rank_many(queries, top_k=_TOP, rescore=count))
            found[f"{count} proposals"] = {"seconds": time.perf_counter() - started, **_recall(own, ranked)}
    found["link"] = _linked(matcher, search, entries, queries)
    content = {
        "command": "python benchmarks tiers MATCHER SEARCH",
        "queries": len(queries),
        "entries": len(entries),
        "environment": environment(_PACKAGES, scale=scale, threads=THREADS),
        **found,
    }
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    click.echo(json.dumps(found, indent=2))


def _load(directory: Path) -> Matcher:
    return Matcher.load(directory, device="cpu", threads=THREADS, on_truncate="ignore", cache_size=_CACHED)


def _some(texts: Sequence[str], scale: float) -> list[str]:
    distinct = list(dict.fromkeys(texts))
    chosen = np.random.default_rng(0).permutation(len(distinct))[: max(_TOP, int(len(distinct) * scale))]
    return [distinct[i] for i in chosen]


def _recall(own: Sequence[Sequence[Match]], found: Sequence[Sequence[Match]]) -> dict[str, float]:
    """Return the share of the best answer, and of the best ten, that were found."""
    best = [mine[0].index in {match.index for match in theirs} for mine, theirs in zip(own, found, strict=True)]
    shares = [
        len({match.index for match in mine} & {match.index for match in theirs}) / len(mine)
        for mine, theirs in zip(own, found, strict=True)
    ]
    return {"recall of the best": float(np.mean(best)), "recall of the best ten": float(np.mean(shares))}


def _linked(matcher: Path, search: Path, a: Sequence[str], b: Sequence[str]) -> dict[str, float]:
    """Return the matches of `link` with the deep matcher alone that are found with both."""
    seconds, found = [], []
    for other in (None, search):
        with _load(matcher) as deep, nullcontext() if other is None else _load(other) as static:
            started = time.perf_counter()
            links = link(deep, a, b, search_with=static)
            seconds.append(time.perf_counter() - started)
            found.append(set(zip(links.a.tolist(), links.b.tolist(), strict=True)))
    return {
        "matches": len(found[0]),
        "recall": len(found[0] & found[1]) / max(1, len(found[0])),
        "seconds alone": seconds[0],
        "seconds": seconds[1],
    }


if __name__ == "__main__":
    main()
