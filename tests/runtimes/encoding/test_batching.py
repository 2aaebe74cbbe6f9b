from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flipkd_sdk.runtimes.encoding.batching import LENGTH_STEP, padded_length, plan_batches

MAX_LENGTH = 30
LENGTHS = st.lists(st.integers(1, MAX_LENGTH), max_size=80)


@given(LENGTHS, st.integers(1, 200), st.one_of(st.none(), st.integers(1, 9)))
def test_every_text_runs_once_within_the_limits(lengths: list[int], max_tokens: int, max_rows: int | None) -> None:
    batches = plan_batches(lengths, max_length=MAX_LENGTH, max_tokens=max_tokens, max_rows=max_rows)
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(lengths)))
    assert [batch.width for batch in batches] == sorted(batch.width for batch in batches)
    for batch in batches:
        assert len(batch.rows) * batch.width <= max_tokens or len(batch.rows) == 1
        assert max_rows is None or len(batch.rows) <= max_rows


@given(LENGTHS, st.integers(1, 200))
def test_a_text_is_padded_by_its_own_length_alone(lengths: list[int], max_tokens: int) -> None:
    for batch in plan_batches(lengths, max_length=MAX_LENGTH, max_tokens=max_tokens):
        for row in batch.rows:
            (alone,) = plan_batches([lengths[row]], max_length=MAX_LENGTH, max_tokens=max_tokens)
            assert batch.width == alone.width == padded_length(lengths[row], MAX_LENGTH)
            assert lengths[row] <= batch.width < lengths[row] + LENGTH_STEP


@given(LENGTHS)
def test_batches_are_as_full_as_the_budget_allows(lengths: list[int]) -> None:
    batches = plan_batches(lengths, max_length=MAX_LENGTH, max_tokens=64)
    for width in {batch.width for batch in batches}:
        *full, _ = [batch for batch in batches if batch.width == width]
        assert all((len(batch.rows) + 1) * width > 64 for batch in full)


def test_a_width_never_exceeds_what_the_model_was_trained_for() -> None:
    assert padded_length(MAX_LENGTH, MAX_LENGTH) == MAX_LENGTH
    assert plan_batches([30, 29], max_length=30, max_tokens=1000)[0].width == 30
