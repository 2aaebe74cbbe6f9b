from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tiny import TEXTS

from flipkd_sdk.errors import ConfigError, InvalidTextError, MatcherDirectoryError
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.serving import dataframes
from flipkd_sdk.runtimes.serving.dataframes import PairScorer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

A, B = list(TEXTS[:5]), list(TEXTS[5:])


@pytest.fixture(scope="module")
def expected(tiny_matcher: Path) -> NDArray[np.float32]:
    with Matcher.load(tiny_matcher) as matcher:
        return matcher.score_pairs(zip(A, B, strict=True))


@pytest.fixture(scope="module")
def scorer(tiny_matcher: Path) -> PairScorer:
    return PairScorer(tiny_matcher, a_column="q", b_column="f")


def batch(kind: str) -> Any:
    columns: dict[str, list[Any]] = {"id": [7, 8, 9, 10, 11], "q": A, "f": B}
    if kind == "dict":
        return {name: np.array(values, dtype=object) for name, values in columns.items()}
    if kind == "dict of fixed-width strings":
        return {name: np.array(values) for name, values in columns.items()}
    if kind == "pandas":
        return pytest.importorskip("pandas").DataFrame(columns, index=list("vwxyz"))
    if kind == "polars":
        return pytest.importorskip("polars", reason="polars is not installed: pip install polars").DataFrame(columns)
    pyarrow = pytest.importorskip("pyarrow")
    return (pyarrow.table if kind == "table" else pyarrow.RecordBatch.from_pydict)(columns)


KINDS = ["dict", "dict of fixed-width strings", "pandas", "polars", "table", "record batch"]


def names(table: Any) -> list[str]:
    if hasattr(table, "schema"):
        return list(table.schema if isinstance(table.schema, dict) else table.schema.names)  # polars has a dict
    return list(table)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_comes_back_with_its_scores(scorer: PairScorer, kind: str, expected: NDArray[np.float32]) -> None:
    given = batch(kind)
    scored = scorer(given)
    assert type(scored) is type(given)
    assert names(given) == ["id", "q", "f"], "what was given is not changed"
    assert names(scored) == ["id", "q", "f", "score", "match"]
    np.testing.assert_allclose(np.asarray(scored["score"]), expected, atol=1e-6)
    assert np.asarray(scored["score"]).dtype == np.float32
    assert np.asarray(scored["match"]).tolist() == (expected >= 0.5).tolist()
    assert np.asarray(scored["q"]).tolist() == A
    if kind == "pandas":
        assert list(scored.index) == list("vwxyz")


@pytest.mark.parametrize("kind", KINDS)
def test_errors_name_the_column_and_the_row(tiny_matcher: Path, scorer: PairScorer, kind: str) -> None:
    with pytest.raises(ConfigError, match="no column 'absent'; it has: 'id', 'q', 'f'"):
        PairScorer(tiny_matcher, a_column="absent", b_column="f")(batch(kind))
    with pytest.raises(ConfigError, match="column 'id' already"):
        PairScorer(tiny_matcher, a_column="q", b_column="f", score_column="id")(batch(kind))
    with pytest.raises(InvalidTextError, match="row 0 of a batch, column 'id': expected a str, found 7"):
        PairScorer(tiny_matcher, a_column="q", b_column="id")(batch(kind))


def test_missing_texts_are_named(scorer: PairScorer) -> None:
    pandas = pytest.importorskip("pandas")
    for missing in (None, float("nan")):
        with pytest.raises(InvalidTextError, match=r"row 1 of a batch, column 'f': expected a str, found (None|nan)"):
            scorer(pandas.DataFrame({"q": ["a", "b"], "f": ["c", missing]}))


def test_an_empty_batch_is_legal(scorer: PairScorer) -> None:
    pandas = pytest.importorskip("pandas")
    scored = scorer(pandas.DataFrame({"q": [], "f": []}, dtype=object))
    assert (len(scored), list(scored)) == (0, ["q", "f", "score", "match"])


def test_other_batches_are_refused(scorer: PairScorer) -> None:
    with pytest.raises(ConfigError, match="a batch is a list; expected a pandas or polars DataFrame"):
        scorer([("a", "b")])  # type: ignore[type-var]


def test_two_columns_of_one_name_are_refused(tiny_matcher: Path) -> None:
    for options in ({"score_column": "match"}, {"match_column": "text_a"}):
        with pytest.raises(ConfigError, match="need names of their own"):
            PairScorer(tiny_matcher, **options)  # type: ignore[arg-type]
    assert names(PairScorer(tiny_matcher, a_column="q", b_column="f", match_column=None)(batch("dict")))[-1] == "score"


def test_iterators_are_scored_batch_by_batch(scorer: PairScorer) -> None:
    served = []

    def batches() -> Any:
        for i in range(3):
            served.append(i)
            yield batch("dict")

    scored = scorer.map(batches())
    next(scored)
    assert served == [0]
    assert len(list(scored)) == 2


def test_columns_of_texts_are_scored(scorer: PairScorer, expected: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(scorer.scores(A, B), expected, atol=1e-6)
    with pytest.raises(ConfigError, match="5 first texts, but 1"):
        scorer.scores(A, ["a"])


def test_a_process_opens_a_matcher_once(tiny_matcher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataframes._matcher_of_process.cache_clear()
    opened = []
    monkeypatch.setattr(dataframes, "Matcher", lambda *args: opened.append(args) or Matcher(*args))
    scorer = PairScorer(tiny_matcher, a_column="q", b_column="f")
    assert not opened, "a driver without the matcher can make a scorer"
    for _ in range(2):
        for one in (scorer, pickle.loads(pickle.dumps(scorer))):  # noqa: S301
            one(batch("dict"))
    assert len(opened) == 1


def test_a_scorer_travels_to_another_process(tiny_matcher: Path, expected: NDArray[np.float32]) -> None:
    scorer = PairScorer(tiny_matcher, a_column="q", b_column="f")
    assert len(pickle.dumps(scorer)) < 1000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        scored = pool.apply_async(scorer, (batch("dict"),)).get(timeout=120)
    np.testing.assert_allclose(scored["score"], expected, atol=1e-6)


def test_a_missing_matcher_is_an_error_of_the_first_batch(tmp_path: Path) -> None:
    scorer = PairScorer(tmp_path / "absent", a_column="q", b_column="f")
    with pytest.raises(MatcherDirectoryError, match="no such directory"):
        scorer(batch("dict"))


def test_neither_pandas_nor_pyarrow_is_imported(tiny_matcher: Path) -> None:
    script = (
        "import sys, numpy as np\n"
        "sys.modules['pandas'] = sys.modules['pyarrow'] = None\n"
        "from flipkd_sdk.runtimes.serving.dataframes import PairScorer\n"
        "texts = np.array(['a', 'b'])\n"
        "print(len(PairScorer(sys.argv[1])({'text_a': texts, 'text_b': texts})['score']))\n"
    )
    command = [sys.executable, "-c", script, str(tiny_matcher)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")
