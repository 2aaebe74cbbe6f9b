from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.evaluation import retrieval
from flipkd_sdk.evaluation.retrieval import IntentTexts, first_ranks, read_intents, read_retrieval_set, summary

if TYPE_CHECKING:
    from pathlib import Path

Row = tuple[tuple[int, int], str]
# Vectors of small whole numbers: their products are exact, and ties are the rule.
ROW = st.tuples(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), st.sampled_from("abc"))


def plain_ranks(queries: list[Row], exemplars: list[Row]) -> list[int]:
    """One query and one exemplar at a time, with ties against the query."""
    ranks = []
    for (x, y), intent in queries:
        order = sorted(exemplars, key=lambda row: (-(row[0][0] * x + row[0][1] * y), row[1] == intent))
        ranks.append(1 + next(i for i, (_, other) in enumerate(order) if other == intent))
    return ranks


def ranks_of(queries: list[Row], exemplars: list[Row]) -> list[int]:
    vectors = [np.array([vector for vector, _ in rows], np.float32) for rows in (queries, exemplars)]
    found = first_ranks(*vectors, [intent for _, intent in queries], [intent for _, intent in exemplars])
    return found.tolist()


@given(st.lists(ROW, min_size=1, max_size=12), st.lists(ROW, min_size=1, max_size=12), st.integers(1, 40))
def test_ranks_are_those_of_a_plain_computation_in_blocks_of_any_size(
    queries: list[Row], exemplars: list[Row], block: int
) -> None:
    exemplars = [*exemplars, *(((0, 0), intent) for intent in "abc")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "_BLOCK", block)
        found = ranks_of(queries, exemplars)
    assert found == plain_ranks(queries, exemplars)
    assert ranks_of(queries, exemplars[::-1]) == found
    assert summary(np.array(found)) == pytest.approx(
        {"top1": sum(rank == 1 for rank in found) / len(found), "mrr": sum(1 / rank for rank in found) / len(found)}
    )


def test_a_known_case() -> None:
    exemplars: list[Row] = [((2, 0), "a"), ((1, 0), "b"), ((0, 2), "c")]
    assert ranks_of([((1, 0), "a"), ((1, 0), "b"), ((1, 0), "c"), ((0, 1), "c")], exemplars) == [1, 2, 3, 1]
    assert summary(np.array([1, 2, 3, 1])) == pytest.approx({"top1": 0.5, "mrr": (1 + 1 / 2 + 1 / 3 + 1) / 4})


def test_an_exemplar_of_another_intent_that_is_as_near_stands_first() -> None:
    assert ranks_of([((1, 1), "a")], [((1, 1), "a"), ((1, 1), "b")]) == [2]
    assert ranks_of([((1, 1), "a")], [((1, 1), "a"), ((1, 1), "a")]) == [1]


@pytest.mark.parametrize("name", ["texts.csv", "texts.jsonl"])
def test_texts_and_intents_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    rows = [("where is my card", "arrival"), ("top up, please", "top_up")]
    if name.endswith("csv"):
        path.write_text("kind,question\n" + "".join(f'{intent},"{text}"\n' for text, intent in rows))
    else:
        path.write_text("".join(f'{{"question": "{text}", "kind": "{intent}"}}\n' for text, intent in rows))
    found = read_intents(path, text_column="question", intent_column="kind")
    assert found == IntentTexts(*zip(*rows, strict=True))
    assert len(found) == 2


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ("text,kind\nx,a\n", r"queries.csv: no column 'intent'; the header has: 'text', 'kind'$"),
        ("", r"queries.csv: empty; expected a header line"),
        ("text,intent\n", r"queries.csv: no texts; expected at least one with its intent$"),
        (
            "text,intent\nx,a\nx,d\ny,e\ny,f\nz,g\n",
            r"queries.csv: 4 intents of queries have no exemplar in .*exemplars.csv: 'd', 'e', 'f' and 1 more; add",
        ),
    ],
)
def test_files_that_cannot_be_used_are_told_in_one_line(tmp_path: Path, queries: str, message: str) -> None:
    (tmp_path / "queries.csv").write_text(queries)
    (tmp_path / "exemplars.csv").write_text("text,intent\nx,a\ny,b\n")
    with pytest.raises(InvalidPairsError, match=message) as raised:
        read_retrieval_set(tmp_path / "queries.csv", tmp_path / "exemplars.csv")
    assert "\n" not in str(raised.value)


def test_vectors_of_an_intent_without_exemplars_are_refused() -> None:
    with pytest.raises(InvalidPairsError, match=r"^1 intents of queries have no exemplar: 'c'; add exemplars"):
        ranks_of([((1, 0), "c")], [((1, 0), "a")])
