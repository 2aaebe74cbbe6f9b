"""`link_frames` and `dedupe_frame`: matches and groups of the rows of pandas or polars DataFrames."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numpy as np

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.runtimes.linkage.decide import NEIGHBOURS
from flipkd_sdk.runtimes.linkage.dedupe import dedupe
from flipkd_sdk.runtimes.linkage.link import link
from flipkd_sdk.runtimes.options import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd
    import polars as pl
    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.linkage.clustering import Linkage
    from flipkd_sdk.runtimes.linkage.proposals import Search
    from flipkd_sdk.runtimes.matcher import Matcher

Frame = TypeVar("Frame", "pd.DataFrame", "pl.DataFrame")


def link_frames(
    matcher: Matcher,
    a: Frame,
    b: Frame,
    *,
    a_column: str = "text",
    b_column: str = "text",
    b_prefix: str = "b_",
    score_column: str = "score",
    threshold: float | None = None,
    top_k: int = 1,
    one_to_one: bool = False,
    neighbours: int = NEIGHBOURS,
    search: Search = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> Frame:
    """Join two DataFrames by the meaning of a column of texts.

    Args:
        matcher: the matcher.
        a: the first frame, of pandas or polars.
        b: the second frame, of the same kind.
        a_column: column of texts of the first frame.
        b_column: column of texts of the second frame.
        b_prefix: beginning of the names of the second frame's columns.
        score_column: name of the column of scores.
        threshold: as for `link`.
        top_k: as for `link`.
        one_to_one: as for `link`.
        neighbours: as for `link`.
        search: as for `link`.
        progress: as for `link`.

    Returns:
        A new frame with a row for each match: the columns of both rows, and the score.

    Raises:
        ConfigError: the arguments are no frames of one kind, a column is missing, or two columns have the same name.
        InvalidTextError: a text is missing or no str; the message names its row.
    """
    kind = _kind(a, "a")
    if _kind(b, "b") != kind:
        raise ConfigError("a and b are frames of different libraries; convert one of them")
    texts = _texts(a, a_column, "a"), _texts(b, b_column, "b")
    names: dict[Any, str] = {name: f"{b_prefix}{name}" for name in b.columns}
    _refuse_twins([*a.columns, *names.values(), score_column])
    links = link(
        matcher,
        *texts,
        threshold=threshold,
        top_k=top_k,
        one_to_one=one_to_one,
        neighbours=neighbours,
        search=search,
        progress=progress,
    )
    joined: Any
    if kind == "pandas":
        import pandas as pd

        left, right = (frame.iloc[rows].reset_index(drop=True) for frame, rows in ((a, links.a), (b, links.b)))
        joined = pd.concat([left, right.rename(columns=names)], axis=1)
    else:
        joined = a[links.a].hstack(b[links.b].rename(names))
    return cast("Frame", _with_columns(joined, {score_column: links.score}))


def dedupe_frame(
    matcher: Matcher,
    frame: Frame,
    *,
    column: str = "text",
    group_column: str = "group",
    score_column: str = "score",
    threshold: float | None = None,
    linkage: Linkage = "complete",
    neighbours: int = NEIGHBOURS,
    search: Search = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> Frame:
    """Group the rows of a DataFrame by the meaning of a column of texts.

    Args:
        matcher: the matcher.
        frame: of pandas or polars.
        column: column of texts.
        group_column: name of the column of groups.
        score_column: name of the column of scores.
        threshold: as for `dedupe`.
        linkage: as for `dedupe`.
        neighbours: as for `dedupe`.
        search: as for `dedupe`.
        progress: as for `dedupe`.

    Returns:
        A new frame with two columns more: the position from 0 of the row that stands for the group, and the score of
        the row with that one.

    Raises:
        ConfigError: the argument is no frame, the column is missing, or two columns have the same name.
        InvalidTextError: a text is missing or no str; the message names its row.
    """
    _kind(frame, "frame")
    texts = _texts(frame, column, "frame")
    _refuse_twins([*frame.columns, group_column, score_column])
    groups = dedupe(
        matcher,
        texts,
        threshold=threshold,
        linkage=linkage,
        neighbours=neighbours,
        search=search,
        progress=progress,
    )
    return cast("Frame", _with_columns(frame, {group_column: groups.canonical, score_column: groups.score}))


def _kind(frame: object, name: str) -> Literal["pandas", "polars"]:
    # Whoever passes an instance of their classes has imported them.
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and isinstance(frame, pandas.DataFrame):
        return "pandas"
    if polars is not None and isinstance(frame, polars.DataFrame):
        return "polars"
    raise ConfigError(f"{name} must be a DataFrame of pandas or polars; it is {shown(frame)}")


def _texts(frame: Any, column: str, name: str) -> list[Any]:  # noqa: ANN401 - a frame of either library
    if column not in list(frame.columns):
        raise ConfigError(f"{name} has no column {column!r}; it has: {', '.join(map(repr, frame.columns))}")
    texts: list[Any] = frame[column].to_list()
    return texts


def _refuse_twins(names: list[Any]) -> None:
    twins = [name for i, name in enumerate(names) if name in names[:i]]
    if twins:
        raise ConfigError(f"two columns are named {twins[0]!r}; rename one, or name another column in the arguments")


def _with_columns(frame: Any, added: Mapping[str, NDArray[Any]]) -> object:  # noqa: ANN401 - a frame of either library
    if hasattr(frame, "assign"):
        return frame.assign(**added)
    return frame.with_columns(**{name: np.asarray(values) for name, values in added.items()})
