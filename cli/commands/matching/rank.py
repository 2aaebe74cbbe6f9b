"""``flipkd rank``: find the best candidates of one table for each query of another."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import Stopwatch, note_blank_lines, print_run, row_progress
from flipkd_sdk.cli.tables.columns import Column, TextFormat
from flipkd_sdk.cli.tables.files import check_output, open_output

if TYPE_CHECKING:
    from flipkd_sdk.cli.tables.files import TableFormat
    from flipkd_sdk.cli.tables.open import TableOptions
    from flipkd_sdk.runtimes.matcher import Matcher
    from flipkd_sdk.runtimes.search.candidates import CandidateSet

_CHUNK_QUERIES = 2048
_PROPOSALS = 50
"""Candidates of a query that MATCHER scores where another matcher searches."""


@click.command(
    epilog=options.examples(
        "flipkd rank faq-matcher questions.csv faq.csv --query-column question --candidate-column 2 --top-k 3",
        "flipkd rank faq-matcher new.csv faq.csv --save-candidates faq-candidates --out found.csv",
        "flipkd rank faq-matcher newer.csv faq-candidates --out found-too.csv",
        "flipkd rank faq-matcher questions.csv answers.csv --search-with static-matcher --out found.csv",
    )
)
@options.matcher_argument
@click.argument("queries", type=click.Path(allow_dash=True))
@click.argument("candidates", type=click.Path())
@click.option(
    "--query-column", metavar="COLUMN", help="Column of the queries: name or position.  [default: text, or 1]"
)
@click.option(
    "--candidate-column", metavar="COLUMN", help="Column of the candidates: name or position.  [default: text, or 1]"
)
@click.option("--top-k", type=click.IntRange(min=1), default=10, show_default=True, help="Most candidates for a query.")
@click.option("--score-cutoff", type=click.FloatRange(0, 1), help="Leave out candidates that score less.")
@click.option("--only-matches", is_flag=True, help="Leave out candidates that are no matches.")
@options.search_threshold_option
@click.option("--out", type=click.Path(allow_dash=True), default="-", help="File to write.  [default: standard output]")
@click.option("--overwrite", is_flag=True, help="Replace the output if there is one.")
@options.search_with_option
@click.option(
    "--rescore",
    type=click.IntRange(min=0),
    help="Best candidates of the search that are scored as pairs.  [default: 10; 50 with --search-with]",
)
@click.option("--save-candidates", type=click.Path(), help="Keep the encoded candidates in this directory.")
@options.table_options
@options.output_text_options
@options.familiarity_option("Add a column with the familiarity of the query.")
@options.run_json_option
@options.blank_option
@options.head_option
@options.execution_options
def rank(
    matcher: str,
    queries: str,
    candidates: str,
    query_column: str | None,
    candidate_column: str | None,
    top_k: int,
    score_cutoff: float | None,
    only_matches: bool,
    threshold: float | None,
    out: str,
    overwrite: bool,
    search_with: str | None,
    rescore: int | None,
    save_candidates: str | None,
    file_format: TableFormat | None,
    delimiter: str | None,
    header: bool,
    encoding: str,
    max_row_length: int,
    float_format: str,
    escape_formulas: bool,
    familiarity: bool,
    as_json: bool,
    on_blank: Literal["zero", "score"],
    head: bool,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Find the CANDIDATES that match each of the QUERIES best, with MATCHER, a directory made by 'flipkd export'.

    QUERIES and CANDIDATES are CSV, JSONL or Parquet files with a column of texts. The output repeats each query's row
    for every candidate found, best first, with five more columns: the rank from 1, the candidate's row in its table
    from 1, its text, the score and 1 for a match, that is a score of at least the search threshold. Candidates are
    encoded once, by the matcher that searches; --save-candidates keeps them in a directory, which later runs accept as
    CANDIDATES.
    """
    from flipkd_sdk.cli.tables.open import one_text_column, open_sink, open_source
    from flipkd_sdk.cli.tables.sources import refuse_row, rows_at
    from flipkd_sdk.runtimes.matcher import Matcher

    options.refuse_swapped(matcher, queries, "rank")

    reading = functools.partial(
        one_text_column,
        file_format=file_format,
        delimiter=delimiter,
        encoding=encoding,
        header=header,
        max_row_length=max_row_length,
    )
    options.refuse_json(out, as_json=as_json)
    check_output(out, overwrite=overwrite)
    added = (
        Column("rank", "number"),
        Column("candidate_row", "number"),
        Column("candidate", "text"),
        Column("score", "score"),
        Column("match", "flag"),
        *([Column("familiarity", "score")] if familiarity else []),
    )
    with ExitStack() as stack:
        source, text_encoding = stack.enter_context(
            open_source(queries, reading(query_column, "--query-column"), added, refuse_row)
        )
        model = stack.enter_context(
            Matcher.load(matcher, device=device, precision=precision, threads=threads, on_blank=on_blank, head=head)
        )
        if familiarity:
            model.familiarity([])  # A matcher without a sketch is refused before anything is written.
        search = model
        if search_with is not None:
            search = stack.enter_context(
                Matcher.load(search_with, device=device, threads=threads, on_blank=on_blank, head=False)
            )
        candidate_set = _candidates(search, candidates, reading(candidate_column, "--candidate-column"))
        if save_candidates is not None:
            candidate_set.save(save_candidates, overwrite=overwrite)
        proposals = rescore if rescore is not None else _PROPOSALS if search_with else 10
        if search_with is not None:
            candidate_set = candidate_set.decided_by(model)
        stream = stack.enter_context(open_output(out, overwrite=overwrite))
        form = TextFormat(float_format, escape_formulas)
        sink = stack.enter_context(open_sink(stream, out, source, text_encoding, added, form))
        advance = stack.enter_context(row_progress(source.total))
        least_match = options.search_threshold(model, threshold)
        least = max(score_cutoff or 0.0, least_match if only_matches else 0.0)
        watch = Stopwatch()
        asked = written = answered = blank = 0
        while chunk := source.take(_CHUNK_QUERIES):
            texts = [text for text, _ in chunk.pairs]
            ranked = candidate_set.rank_many(texts, top_k=top_k, score_cutoff=least or None, rescore=proposals)
            familiar = model.familiarity(texts).tolist() if familiarity else []
            rows = [
                (index, number, match)
                for index, matches in enumerate(ranked)
                for number, match in enumerate(matches, start=1)
            ]
            sink.write(
                rows_at(chunk.rows, [index for index, _, _ in rows]),
                (
                    [number for _, number, _ in rows],
                    [match.index + 1 for _, _, match in rows],
                    [match.text for _, _, match in rows],
                    [match.score for _, _, match in rows],
                    [match.score >= least_match for _, _, match in rows],
                    *([[familiar[index] for index, _, _ in rows]] if familiarity else []),
                ),
            )
            advance(len(texts), chunk.position)
            asked += len(texts)
            written += len(rows)
            answered += sum(bool(matches) and matches[0].score >= least_match for matches in ranked)
            blank += chunk.blank_rows
        truncated = model.truncated_texts
    note_blank_lines(queries, source.blank_lines)
    figures = {
        "output": out,
        "queries": asked,
        "rows": written,
        "queries_matched": answered,
        "threshold": least_match,
        "queries_per_second": round(watch.rate(asked), 1),
        "truncated_texts": truncated,
        "blank_queries": blank,
    }
    line = (
        f"{asked:,} queries, {written:,} rows, {answered:,} queries with a match at {least_match:.4f}, "
        f"{watch.rate(asked):,.0f} queries/s, {truncated:,} texts truncated, {blank:,} blank queries"
    )
    print_run(figures, line, as_json=as_json)


def _candidates(matcher: Matcher, path: str, reading: TableOptions) -> CandidateSet:
    """Return the candidates of a table, or of a directory of saved ones."""
    from flipkd_sdk.cli.tables.open import open_source
    from flipkd_sdk.cli.tables.sources import refuse_row
    from flipkd_sdk.runtimes.search.candidates import CandidateSet

    if Path(path).is_dir():
        return CandidateSet.load(path, matcher)
    candidate_set = matcher.candidates([])
    with open_source(path, reading, (), refuse_row) as (source, _):
        while chunk := source.take(_CHUNK_QUERIES):
            candidate_set.append(text for text, _ in chunk.pairs)
    return candidate_set
