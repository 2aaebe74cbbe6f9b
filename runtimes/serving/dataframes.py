"""`PairScorer`: adds scores to batches of any table engine.

Engines that work on many machines (Ray Data, Spark, Dask, Daft) pass batches in a format of their own to a function in
worker processes that they start and stop. The scorer therefore carries the path of a matcher and no model: it is small,
it pickles, and it opens its matcher once per process, when the first batch comes.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numpy as np

from flipkd_sdk.errors import ConfigError, InvalidTextError
from flipkd_sdk.runtimes.encoding.inputs import several
from flipkd_sdk.runtimes.load import LoadOptions
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.options import check_path, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

Batch = TypeVar("Batch", "pd.DataFrame", "pl.DataFrame", "pa.Table", "pa.RecordBatch", "dict[str, NDArray[Any]]")


class PairScorer:
    """Adds two columns to batches of a table: the match probability of two text columns, and whether it is a match.

    A batch is a pandas or polars DataFrame, a pyarrow Table or RecordBatch, or a dict of numpy arrays. The result is of
    the same kind, with a float32 and a boolean column more. The batch itself is not changed.

    Args:
        matcher: a matcher directory, at a path that every worker can read.
        a_column: name of the column of first texts.
        b_column: name of the column of second texts.
        score_column: name of the column of scores.
        match_column: name of the column of matches; None for no such column.
        device: as for `Matcher.load`.
        precision: as for `Matcher.load`.
        threads: as for `Matcher.load`, but 1 by default, because engines run one worker per CPU.
        cache_size: as for `Matcher.load`, but 10,000 by default, because texts repeat from batch to batch.
        on_blank: as for `Matcher.load`.

    Raises:
        ConfigError: two columns have the same name, or an argument has an invalid value.

    Example:
        >>> scorer = PairScorer("faq-matcher", a_column="question", b_column="answer")
        >>> ray.data.read_parquet("pairs/").map_batches(scorer).write_parquet("scored/")
        >>> spark.read.parquet("pairs/").mapInPandas(scorer.map, schema="question string, answer string, "
        ...                                         "score float, match boolean").write.parquet("scored/")
    """

    def __init__(
        self,
        matcher: str | Path,
        *,
        a_column: str = "text_a",
        b_column: str = "text_b",
        score_column: str = "score",
        match_column: str | None = "match",
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = 1,
        cache_size: int = 10_000,
        on_blank: Literal["zero", "score"] = "zero",
    ) -> None:
        check_path("matcher", matcher)
        self._directory = str(matcher)
        self._options = LoadOptions(
            device=device, precision=precision, threads=threads, cache_size=cache_size, on_blank=on_blank
        )
        self._texts = a_column, b_column
        self._added = (score_column,) if match_column is None else (score_column, match_column)
        for name in (*self._texts, *self._added):
            if not isinstance(name, Hashable):
                raise ConfigError(f"the name of a column must be a str; it is {shown(name)}")
        names = {a_column, b_column, *self._added}
        if len(names) < len({a_column, b_column}) + len(self._added):
            raise ConfigError(f"the columns {', '.join(map(repr, self._added))} need names of their own")

    def __call__(self, batch: Batch) -> Batch:
        """Return a batch with its scores.

        Raises:
            ConfigError: the batch is of another kind, lacks a text column or already has a column of that name.
            InvalidTextError: a text is missing or no str; the message names its row in the batch and its column.
            FlipKDError: an error of `Matcher.load`, on the first batch.
        """
        if isinstance(batch, dict):
            return {**batch, **self._columns(batch, {name: batch[name].tolist() for name in self._found(batch)})}
        # Whoever passes an instance of their classes has imported them.
        pandas, polars, pyarrow = map(sys.modules.get, ("pandas", "polars", "pyarrow"))
        if pandas is not None and isinstance(batch, pandas.DataFrame):
            texts = {name: batch[name].tolist() for name in self._found(batch.columns)}
            return cast("Batch", batch.assign(**self._columns(batch.columns, texts)))
        if polars is not None and isinstance(batch, polars.DataFrame):
            texts = {name: batch[name].to_list() for name in self._found(batch.columns)}
            return cast("Batch", batch.with_columns(**self._columns(batch.columns, texts)))
        if pyarrow is not None and isinstance(batch, pyarrow.Table | pyarrow.RecordBatch):
            texts = {name: batch.column(name).to_pylist() for name in self._found(batch.schema.names)}
            for name, values in self._columns(batch.schema.names, texts).items():
                batch = batch.append_column(name, pyarrow.array(values))
            return batch
        raise ConfigError(
            f"a batch is a {type(batch).__name__}; expected a pandas or polars DataFrame, a pyarrow Table or "
            "RecordBatch, or a dict of numpy arrays"
        )

    def map(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Score batch after batch, for Spark's ``mapInPandas`` and ``mapInArrow``; raise the errors of a call."""
        for batch in batches:
            yield self(batch)

    def scores(self, a_texts: Sequence[str], b_texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the match probabilities of two columns, row by row, for engines that pass columns, such as Daft.

        Returns:
            Shape (n,).

        Raises:
            ConfigError: the columns differ in length.
            InvalidTextError: a text is missing or no str; the message names its row and its column.
            FlipKDError: an error of `Matcher.load`, on the first call.
        """
        columns = [list(several(a_texts, "a_texts")), list(several(b_texts, "b_texts"))]
        if len(columns[0]) != len(columns[1]):
            raise ConfigError(f"there are {len(columns[0])} first texts, but {len(columns[1])} second ones")
        for name, texts in zip(self._texts, columns, strict=True):
            for row, text in enumerate(texts):
                if not isinstance(text, str):
                    raise InvalidTextError(
                        f"row {row} of a batch, column {name!r}: expected a str, found {shown(text)}"
                    )
        return self._matcher().score_pairs(zip(*columns, strict=True))

    def _found(self, names: Iterable[str]) -> tuple[str, str]:
        there = list(names)
        for name in self._texts:
            if name not in there:
                raise ConfigError(f"a batch has no column {name!r}; it has: {', '.join(map(repr, there))}")
        return self._texts

    def _columns(self, names: Iterable[str], texts: dict[str, list[str]]) -> dict[str, NDArray[Any]]:
        if clash := [name for name in self._added if name in list(names)]:
            raise ConfigError(f"a batch has a column {clash[0]!r} already; name another one")
        scores = self.scores(*(texts[name] for name in self._texts))
        matches = scores.astype(np.float64) >= self._matcher().threshold
        return dict(zip(self._added, (scores, matches), strict=False))

    def _matcher(self) -> Matcher:
        return _matcher_of_process(self._directory, self._options)


def process_matcher(
    matcher: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = 1,
    cache_size: int = 10_000,
    on_blank: Literal["zero", "score"] = "zero",
) -> Matcher:
    """Return the matcher of this process, for functions of your own in a table engine.

    The first call with the same arguments opens it; later ones return the same one. A function that calls it pickles
    without the model. The arguments are those of `PairScorer`.

    Raises:
        FlipKDError: an error of `Matcher.load`.
    """
    check_path("matcher", matcher)
    options = LoadOptions(device=device, precision=precision, threads=threads, cache_size=cache_size, on_blank=on_blank)
    return _matcher_of_process(str(matcher), options)


@functools.lru_cache(maxsize=4)
def _matcher_of_process(directory: str, options: LoadOptions) -> Matcher:
    return Matcher(Path(directory).resolve(), options)
