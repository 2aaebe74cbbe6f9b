"""Group the rows of a table whose texts mean the same, such as customers' requests that came in more than once.

    python examples/deduplicate.py MATCHER requests.csv --column text

`flipkd dedupe` does the same from file to file; this program has the groups in Python and prints those of several rows.
"""

from __future__ import annotations

from collections import defaultdict

import click

from flipkd_sdk import Matcher
from flipkd_sdk.runtimes.linkage.dedupe import dedupe
from flipkd_sdk.tables.reader import open_records


@click.command()
@click.argument("matcher")
@click.argument("table")
@click.option("--column", default="text", show_default=True, help="Column of the texts: name or position.")
@click.option("--threshold", type=float, help="Least score of a group.  [default: the matcher's]")
def main(matcher: str, table: str, column: str, threshold: float | None) -> None:
    """Print the groups of rows of TABLE that mean the same."""
    with open_records(table) as records:
        name = records.column(column)
        texts = [records.text(row, name) for row in records.rows]
    with Matcher.load(matcher) as model:
        groups = dedupe(model, texts, threshold=threshold)
    members = defaultdict(list)
    for row, first in enumerate(groups.canonical.tolist()):
        members[first].append(row)
    for first, rows in members.items():
        if len(rows) > 1:
            click.echo(texts[first])
            for row in rows:
                click.echo(f"  {groups.score[row]:.3f}  row {row + 1:,}  {texts[row]}")
    click.echo(f"{len(texts):,} rows in {len(members):,} groups", err=True)


if __name__ == "__main__":
    main()
