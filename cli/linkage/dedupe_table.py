"""Groups of the rows of one table, from file to file."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.cli.console import Stopwatch
from flipkd_sdk.cli.linkage.encoding import open_encoding
from flipkd_sdk.cli.linkage.groups_page import PageContent, groups_page, lowest_shown
from flipkd_sdk.cli.linkage.table import TextTable, read_texts
from flipkd_sdk.cli.tables.columns import Column
from flipkd_sdk.cli.tables.files import check_output, open_output
from flipkd_sdk.cli.tables.open import open_sink
from flipkd_sdk.cli.tables.sources import rows_at
from flipkd_sdk.runtimes.linkage.dedupe import Grouping, Groups, group, least_group_score
from flipkd_sdk.runtimes.linkage.proposals import Search, check_search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flipkd_sdk.cli.linkage.run import RunOptions, StartEngine
    from flipkd_sdk.cli.tables.open import TableOptions
    from flipkd_sdk.runtimes.linkage.clustering import Linkage


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupeOptions:
    """Options of the groups."""

    thresholds: Sequence[float]
    """The first one decides the rows; empty for the matcher's."""
    linkage: Linkage
    neighbours: int
    search: Search
    only_canonical: bool
    """Write only the row that stands for each group."""
    group_column: str
    score_column: str
    report: str | None
    """File for the page of the groups; None for no page."""

    def added(self) -> tuple[Column, ...]:
        """Return the columns of the output; those of further thresholds come last."""
        further = (f"{self.group_column}_{threshold:g}" for threshold in self.thresholds[1:])
        return (
            Column(self.group_column, "number", "--group-column"),
            Column(f"{self.group_column}_rows", "number", "--group-column"),
            Column("canonical", "flag"),
            Column(self.score_column, "score", "--score-column"),
            *(Column(name, "number", "--group-column") for name in further),
        )


def dedupe_table(path: str, start: StartEngine, reading: TableOptions, options: DedupeOptions, run: RunOptions) -> None:
    """Group the rows of a table.

    Args:
        path: the file.
        start: starts the engine, after the table is read.
        reading: options for reading the table.
        options: options of the groups.
        run: the output, and what the run does with rows that cannot be used.

    Raises:
        FlipKDError: the table or a row cannot be used, or an output exists already.
        OSError: an output cannot be written.
    """
    if not run.start():
        return
    if options.report is not None:
        check_output(options.report, overwrite=run.replaceable)
    check_search(options.search)
    watch = Stopwatch()
    with ExitStack() as stack:
        reject = stack.enter_context(run.rejecting(run.rejects or f"{run.out}.rejects.jsonl"))
        table = read_texts(path, reading, options.added(), reject)
        engine, progress, encode = stack.enter_context(open_encoding(start, run.kept, [reading], resume=run.resume))
        thresholds = [*options.thresholds] or [least_group_score(engine, None, options.linkage)]
        vectors = encode(table.distinct.texts)
        truncated = engine.truncated  # Scoring counts the texts of pairs again.
        grouping = group(
            engine,
            table.distinct,
            vectors,
            least=min(thresholds),
            linkage=options.linkage,
            neighbours=options.neighbours,
            search=options.search,
            down_to=None if options.report is None else lowest_shown(min(thresholds)),
            progress=progress,
        )
        found = [grouping.groups(engine, threshold) for threshold in thresholds]
        if options.report is not None:
            stream = stack.enter_context(open_output(options.report, overwrite=run.replaceable))
            stream.write(_page(table, grouping, found, options).encode())
        rows = _write(table, found, options, run)
        counts = [_counts(groups) for groups in found]
    line = ", ".join(f"{count['groups']:,} groups at {count['threshold']:.4f}" for count in counts)
    figures = {
        "output": run.out,
        "rows": table.rows,
        "written": rows,
        "distinct_texts": len(table.distinct.texts),
        "thresholds": counts,
        "rows_per_second": round(watch.rate(table.rows), 1),
        "truncated_texts": truncated,
        "blank_rows": table.blank,
    }
    run.finish(
        figures,
        f"{table.rows:,} rows, {line}, {watch.rate(table.rows):,.0f} rows/s, {truncated:,} texts truncated, "
        f"{table.blank:,} rows with a blank text",
        (table,),
    )


def _write(table: TextTable, found: Sequence[Groups], options: DedupeOptions, run: RunOptions) -> int:
    groups = found[0]
    sizes = groups.sizes
    standing = groups.canonical == np.arange(table.rows)
    written = 0
    with (
        table.reopened() as (source, encoding, chunks),
        open_output(run.out, overwrite=run.replaceable) as stream,
        open_sink(stream, run.out, source, encoding, options.added(), run.form) as sink,
    ):
        for chunk, start in chunks:
            here = np.arange(start, start + len(chunk.pairs))
            if options.only_canonical:
                here = here[standing[here]]
            sink.write(
                rows_at(chunk.rows, here - start),
                (
                    (groups.canonical[here] + 1).tolist(),
                    sizes[here].tolist(),
                    standing[here].tolist(),
                    groups.score[here].astype(np.float64).tolist(),
                    *((other.canonical[here] + 1).tolist() for other in found[1:]),
                ),
            )
            written += len(here)
    return written


def _page(table: TextTable, grouping: Grouping, found: Sequence[Groups], options: DedupeOptions) -> str:
    content = PageContent(
        source=Path(table.path).name,
        thresholds=[groups.threshold for groups in found],
        grouping=grouping,
        groups=found[0],
        facts={
            "Table": f"{table.path}: {table.rows:,} rows, {table.blank:,} with a blank text",
            "Distinct texts": f"{len(table.distinct.texts):,}",
            "Linkage": options.linkage,
            "Texts scored with each text": f"the {options.neighbours:,} nearest",
        },
    )
    return groups_page(content)


def _counts(groups: Groups) -> dict[str, float]:
    sizes = np.unique(groups.canonical, return_counts=True)[1]
    return {
        "threshold": groups.threshold,
        "groups": len(sizes),
        "groups_of_several": int((sizes > 1).sum()),
        "rows_in_groups_of_several": int(sizes[sizes > 1].sum()),
        "largest": int(sizes.max(initial=0)),
    }
