"""`PairScorer` as the engines call it: each of them is skipped where it is not installed."""

from __future__ import annotations

import contextlib
import shutil
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tiny import TEXTS

from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.serving.dataframes import PairScorer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = [(i, a, b) for i, (a, b) in enumerate((a, b) for a in TEXTS[:6] for b in TEXTS[:4])]
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
