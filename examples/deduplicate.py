"""Group the rows of a table whose texts mean the same, such as customers' requests that came in more than once.

    python examples/deduplicate.py MATCHER requests.csv --column text --out grouped.csv

The output has a column more: the number of the group, which is the number of the group's first row. Each text is
encoded once and compared with its nearest neighbours. Texts connected by matches form a group.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import click

from flipkd_sdk import Matcher
from flipkd_sdk.tables.reader import open_records

if TYPE_CHECKING:
    from collections.abc import Sequence


def groups(matcher: Matcher, texts: Sequence[str], *, neighbours: int, least: float) -> list[int]:
    """Return for each text the index of the first text of its group."""
    first = list(range(len(texts)))

    def root(index: int) -> int:
        while first[index] != index:
            first[index] = index = first[first[index]]
        return index

    candidates = matcher.candidates(texts)
    # One more, because a text's nearest neighbour is itself.
    found = candidates.rank_many(texts, top_k=neighbours + 1, score_cutoff=least)
    for index, matches in enumerate(found):
        for match in matches:
            a, b = sorted((root(index), root(match.index)))
            first[b] = a
    return [root(index) for index in range(len(texts))]


@click.command()
@click.argument("matcher")
@click.argument("table")
@click.option("--column", default="text", show_default=True, help="Column of the texts: name or position.")
@click.option("--neighbours", default=10, show_default=True, help="Largest number of other texts that each may match.")
@click.option("--score-cutoff", type=float, help="Smallest score within a group.  [default: the matcher's threshold]")
@click.option("--out", type=click.File("w", encoding="utf-8"), default="-")
def main(matcher: str, table: str, column: str, neighbours: int, score_cutoff: float | None, out: click.File) -> None:
    """Group the rows of TABLE whose texts mean the same."""
    with open_records(table) as records:
        name = records.column(column)
        rows = list(records.rows)
        texts = [records.text(row, name) for row in rows]
    with Matcher.load(matcher) as model:
        least = model.threshold if score_cutoff is None else score_cutoff
        numbers = groups(model, texts, neighbours=neighbours, least=least)
    writer = csv.writer(out, delimiter=records.delimiter or ",", lineterminator="\n")
    writer.writerow([*records.columns, "group"])
    for row, number in zip(rows, numbers, strict=True):
        writer.writerow([*row.cells.values(), number + 1])
    click.echo(f"{len(rows)} rows in {len(set(numbers))} groups", err=True)


if __name__ == "__main__":
    main()
