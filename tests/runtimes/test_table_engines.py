"""`PairScorer` as the engines call it: each of them is skipped where it is not installed."""

from __future__ import annotations

import ast
import contextlib
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tiny import TEXTS

from flipkd_sdk.runtimes.linkage.frames import dedupe_frame, link_frames
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.serving.dataframes import PairScorer, process_matcher

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = [(i, a, b) for i, (a, b) in enumerate((a, b) for a in TEXTS[:6] for b in TEXTS[:4])]
TABLES = Path(__file__).parents[2] / "docs" / "tables.md"
SCHEMA = "id long, text_a string, text_b string, score float, match boolean"


@pytest.fixture(scope="module")
def scorer(tiny_matcher: Path) -> PairScorer:
    return PairScorer(tiny_matcher)


@pytest.fixture(scope="module")
def expected(tiny_matcher: Path) -> dict[int, float]:
    with Matcher.load(tiny_matcher, threads=1) as matcher:
        return dict(enumerate(matcher.score_pairs((a, b) for _, a, b in ROWS).tolist()))


def frame() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(ROWS, columns=["id", "text_a", "text_b"])


def check(found: Any, expected: dict[int, float]) -> None:
    scores = dict(zip(found["id"], found["score"], strict=True))
    assert scores.keys() == expected.keys()
    assert len(found) == len(expected)
    np.testing.assert_allclose([scores[i] for i in expected], list(expected.values()), atol=1e-6)
    assert list(found["match"]) == [score >= 0.5 for score in found["score"]]


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java, which is not installed")
    # Workers import from the folder they start in, where the sources must not hide the installed package.
    with contextlib.chdir(tmp_path_factory.mktemp("spark")), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        session = (
            sql.SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.host", "127.0.0.1")
            .getOrCreate()
        )
        yield session
        session.stop()


@pytest.mark.parametrize("method", ["mapInPandas", "mapInArrow"])
def test_spark(spark: Any, scorer: PairScorer, expected: dict[int, float], method: str) -> None:
    table = spark.createDataFrame(ROWS, "id long, text_a string, text_b string").repartition(3)
    check(getattr(table, method)(scorer.map, SCHEMA).toPandas(), expected)


def documented(mark: str, matcher: Path, names: dict[str, Any]) -> Any:
    """Run the code of docs/tables.md that contains a mark, and return the value of its last line."""
    blocks = re.findall(r"```python\n(.*?)```", TABLES.read_text(encoding="utf-8"), re.DOTALL)
    source = next(block for block in blocks if mark in block).replace("/shared/bank-matcher", str(matcher))
    *body, last = ast.parse(source).body
    names["__name__"] = "__main__"  # Functions of a script travel by value.
    exec(compile(ast.Module(body, []), "docs/tables.md", "exec"), names)  # noqa: S102
    return eval(ast.unparse(last), names)  # noqa: S307


def rows_of(frame: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a pandas frame, sorted, with scores of five digits."""
    return sorted(
        tuple(round(x, 5) if isinstance(x, float) else x for x in row) for row in frame.itertuples(index=False)
    )


@pytest.fixture(scope="module")
def joined(tiny_matcher: Path) -> Any:
    with Matcher.load(tiny_matcher, threads=1) as matcher:
        return link_frames(matcher, questions(), faq(), a_column="question", b_column="title")


def questions() -> Any:
    pandas = pytest.importorskip("pandas")
    texts = [*TEXTS[:12], *TEXTS[:6]]
    return pandas.DataFrame({"id": range(len(texts)), "question": texts})


def faq() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"no": [f"f{i}" for i in range(6)], "title": TEXTS[3:9]})


def test_a_join_on_spark_is_that_of_one_machine(spark: Any, tiny_matcher: Path, joined: Any) -> None:
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "4")
    names = {"questions": spark.createDataFrame(questions()).repartition(3), "faq": faq()}
    found = documented("mapInPandas", tiny_matcher, names).toPandas()
    assert len(joined) > 0
    assert list(found.columns) == list(joined.columns)
    assert rows_of(found) == rows_of(joined)


def test_groups_within_a_key_on_spark_are_those_of_each_part(spark: Any, tiny_matcher: Path) -> None:
    requests = questions().rename(columns={"question": "text"})[["text"]]
    requests.insert(0, "topic", ["cards" if i % 3 else "fees" for i in range(len(requests))])
    names: dict[str, Any] = {"requests": spark.createDataFrame(requests), "dedupe_frame": dedupe_frame}
    names["process_matcher"] = process_matcher
    found = documented("applyInPandas", tiny_matcher, names).toPandas()
    parts = [dedupe_frame(process_matcher(tiny_matcher), part) for _, part in requests.groupby("topic")]
    assert rows_of(found) == sorted(row for part in parts for row in rows_of(part))


def test_a_join_on_dask_is_that_of_one_machine(tiny_matcher: Path, joined: Any) -> None:
    dask = pytest.importorskip("dask.dataframe", reason="dask is not installed")
    names = {"questions": dask.from_pandas(questions(), npartitions=3), "faq": faq()}
    names |= {"link_frames": link_frames, "process_matcher": process_matcher}
    found = documented("map_partitions", tiny_matcher, names).compute(scheduler="threads")
    assert rows_of(found) == rows_of(joined)


def test_a_join_on_daft_is_that_of_one_machine(tiny_matcher: Path, joined: Any) -> None:
    daft = pytest.importorskip("daft", reason="daft is not installed")
    table = daft.from_pydict({name: list(column) for name, column in questions().items()})
    names = {"questions": table, "titles": faq()["title"].tolist()}
    found = documented("daft.func.batch", tiny_matcher, names).to_pandas()
    rows = dict(zip(found["id"], found["faq_row"], strict=True))
    expected = dict(zip(joined["id"], joined["b_no"], strict=True))
    assert {number: f"f{row}" for number, row in rows.items() if row >= 0} == expected


def test_dask(scorer: PairScorer, expected: dict[int, float]) -> None:
    dask = pytest.importorskip("dask.dataframe", reason="dask is not installed")
    table = dask.from_pandas(frame(), npartitions=3)
    # Without `meta`, dask tries the function on a table of its own making, in which texts are missing.
    scored = table.map_partitions(scorer, meta=scorer(frame().head(0)))
    check(scored.compute(scheduler="threads"), expected)


def test_daft(scorer: PairScorer, expected: dict[int, float]) -> None:
    daft = pytest.importorskip("daft", reason="daft is not installed")

    @daft.func.batch(return_dtype=daft.DataType.float32())  # type: ignore[untyped-decorator]
    def score(a: Any, b: Any) -> Any:
        return scorer.scores(a.to_pylist(), b.to_pylist())

    table = daft.from_pydict({name: list(column) for name, column in frame().items()})
    found = table.with_column("score", score(daft.col("text_a"), daft.col("text_b"))).to_pandas()
    found["match"] = found["score"] >= 0.5
    check(found, expected)


@pytest.mark.parametrize("batch_format", ["numpy", "pandas", "pyarrow"])
def test_ray_data(scorer: PairScorer, expected: dict[int, float], batch_format: str, ray_data: Any) -> None:
    table = ray_data.from_pandas(frame())
    check(table.map_batches(scorer, batch_size=7, batch_format=batch_format).to_pandas(), expected)


@pytest.fixture(scope="module")
def ray_data() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    data = pytest.importorskip("ray.data", reason="Ray Data needs pandas and pyarrow")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    data.DataContext.get_current().enable_progress_bars = False
    yield data
    ray.shutdown()
