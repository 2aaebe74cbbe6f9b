"""`PairScorer`: batches of any table engine in, the same batches with scores out.

Engines that work on many machines (Ray Data, Spark, Dask, Daft) hand a function batches in a format of theirs, in
worker processes that they start and stop. So the scorer carries no model, only the path of one: it is small, pickles,
and opens its matcher when the first batch comes, once per process.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from flipkd_sdk.errors import ConfigError, InvalidTextError
from flipkd_sdk.runtimes.matcher import Matcher

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

Batch = TypeVar("Batch", "pd.DataFrame", "pa.Table", "pa.RecordBatch", "dict[str, NDArray[Any]]")


class PairScorer:
    """Adds the match probability of two text columns to batches of a table, and whether it makes a match.

    Takes a pandas DataFrame, a pyarrow Table or RecordBatch, or a dict of numpy arrays, and gives the same kind, with
    a float32 and a boolean column more; what it was given is not changed.

    Args:
        matcher: a matcher directory, under a path that every worker has.
        a_column: name of the column of first texts.
        b_column: name of the column of second texts.
        score_column: name of the column of scores.
        match_column: name of the column of matches; None to add none.
        device: as for `Matcher.load`.
        precision: as for `Matcher.load`.
        threads: as for `Matcher.load`, but 1 by default, because engines run a worker per CPU.
        cache_size: as for `Matcher.load`, but not 0 by default, because texts repeat from batch to batch.

    Raises:
        ConfigError: two columns share a name.

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
    ) -> None:
        self._directory = str(matcher)
        self._texts = a_column, b_column
        self._added = (score_column,) if match_column is None else (score_column, match_column)
        names = {a_column, b_column, *self._added}
        if len(names) < len({a_column, b_column}) + len(self._added):
            raise ConfigError(f"the columns {', '.join(map(repr, self._added))} need names of their own")
        self._device = device
        self._precision = precision
        self._threads = threads
        self._cache_size = cache_size

    def __call__(self, batch: Batch) -> Batch:
        """Score a batch.

        Raises:
            ConfigError: the batch is of another kind, lacks a text column or has a column to be added already.
            InvalidTextError: a text is missing or no str; the message names its row in the batch and its column.
            FlipKDError: as `Matcher.load` raises, when the first batch comes.
        """
        if isinstance(batch, dict):
            return {**batch, **self._columns(batch, {name: batch[name].tolist() for name in self._found(batch)})}
        # An instance of their classes can only come from who has imported them.
        pandas, pyarrow = sys.modules.get("pandas"), sys.modules.get("pyarrow")
        if pandas is not None and isinstance(batch, pandas.DataFrame):
            texts = {name: batch[name].tolist() for name in self._found(batch.columns)}
            return cast("Batch", batch.assign(**self._columns(batch.columns, texts)))
        if pyarrow is not None and isinstance(batch, pyarrow.Table | pyarrow.RecordBatch):
            texts = {name: batch.column(name).to_pylist() for name in self._found(batch.schema.names)}
            for name, values in self._columns(batch.schema.names, texts).items():
                batch = batch.append_column(name, pyarrow.array(values))
            return batch
        raise ConfigError(
            f"a batch is a {type(batch).__name__}; expected a pandas DataFrame, a pyarrow Table or RecordBatch, or a "
            "dict of numpy arrays"
        )

    def map(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Score batch after batch, as Spark's ``mapInPandas`` and ``mapInArrow`` want it. Raises as a call does."""
        for batch in batches:
            yield self(batch)

    def scores(self, a_texts: Sequence[str], b_texts: Sequence[str]) -> NDArray[np.float32]:
        """Match probabilities of the texts in turn, for engines that hand over columns, as Daft does.

        Returns:
            Shape (n,).

        Raises:
            ConfigError: there are more texts of one kind.
            InvalidTextError: a text is missing or no str; the message names its row and its column.
            FlipKDError: as `Matcher.load` raises, when called first.
        """
        if len(a_texts) != len(b_texts):
            raise ConfigError(f"there are {len(a_texts)} first texts, but {len(b_texts)} second ones")
        for name, texts in zip(self._texts, (a_texts, b_texts), strict=True):
            for row, text in enumerate(texts):
                if not isinstance(text, str):
                    raise InvalidTextError(f"row {row} of a batch, column {name!r}: expected a str, found {text!r:.40}")
        return self._matcher().score_pairs(zip(a_texts, b_texts, strict=True))

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
        return _matcher_of_process(self._directory, self._device, self._precision, self._threads, self._cache_size)


@functools.lru_cache(maxsize=4)
def _matcher_of_process(directory: str, device: str, precision: str, threads: int | None, cache_size: int) -> Matcher:
    return Matcher.load(directory, device=device, precision=precision, threads=threads, cache_size=cache_size)
