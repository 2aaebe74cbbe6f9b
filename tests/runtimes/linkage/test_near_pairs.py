from __future__ import annotations

import numpy as np
import pytest

from flipkd_sdk.evaluation.cosines import row_cosines
from flipkd_sdk.runtimes.linkage import near_pairs as module
from flipkd_sdk.runtimes.linkage.near_pairs import Pairs, near_pairs


def unit(rows: int, dimension: int, seed: int = 0, spread: float = 1.0) -> np.ndarray:
    """Unit vectors around a few centres; the lower the spread, the nearer they are."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((7, dimension))
    vectors = centres[random.integers(0, 7, rows)] + spread * random.standard_normal((rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def by_hand(left: np.ndarray, right: np.ndarray | None, least: float, most: int) -> set[tuple[int, int]]:
    """Pairs by sorting all cosines."""
    other = left if right is None else right
    i, j = (part.ravel() for part in np.meshgrid(np.arange(len(left)), np.arange(len(other)), indexing="ij"))
    if right is None:
        i, j = i[i != j], j[i != j]
    cosine = row_cosines(left, i, other, j)
    kept = set()
    for row in range(len(left)):
        own = np.flatnonzero((i == row) & (cosine >= np.float32(least)))
        for index in own[np.lexsort((j[own], -cosine[own]))][:most]:
            pair = int(i[index]), int(j[index])
            kept.add(pair if right is not None else (min(pair), max(pair)))
    return kept


def as_set(pairs: Pairs) -> set[tuple[int, int]]:
    return set(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))


@pytest.mark.parametrize("spread", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("most", [1, 4, 1000])
@pytest.mark.parametrize("least", [-1.0, 0.3, 0.9])
@pytest.mark.parametrize("within", [True, False])
def test_finds_what_sorting_all_cosines_finds(
    monkeypatch: pytest.MonkeyPatch, spread: float, most: int, least: float, within: bool
) -> None:
    monkeypatch.setattr(module, "_ROWS", 16)
    monkeypatch.setattr(module, "_COLUMNS", 24)
    monkeypatch.setattr(module, "_SPARE", 10)
    left = unit(90, 30, spread=spread)
    right = None if within else unit(75, 30, seed=1, spread=spread)
    found = near_pairs(left, right, least=least, most=most)
    assert as_set(found) == by_hand(left, right, least, most)
    assert len(found.a) == len(as_set(found))
    assert (np.diff(found.a) >= 0).all()
    assert not within or (found.a < found.b).all()


def test_pairs_have_the_cosines_that_pairs_have_everywhere() -> None:
    left, right = unit(40, 20), unit(30, 20, seed=1)
    found = near_pairs(left, right, least=0.1, most=5)
    assert np.array_equal(found.cosine, row_cosines(left, found.a, right, found.b))


def test_equal_vectors_are_bounded_by_the_number_of_pairs_per_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SPARE", 100)
    one = np.full((3000, 4), 0.5, dtype=np.float32)
    assert len(near_pairs(one, least=0.5, most=3).a) <= 3 * 3000
    assert len(near_pairs(one[:1], one, least=0.5, most=3).a) == 3


@pytest.mark.parametrize("rows", [0, 1])
def test_no_pair_needs_two_vectors(rows: int) -> None:
    assert len(near_pairs(unit(5, 8)[:rows], least=-1.0, most=3).a) == 0
    assert len(near_pairs(unit(5, 8)[:0], unit(5, 8), least=-1.0, most=3).a) == 0
    assert len(near_pairs(unit(5, 8), unit(5, 8)[:0], least=-1.0, most=3).a) == 0


def test_progress_can_stop_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 10)
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        near_pairs(unit(100, 8), least=0.0, most=3, progress=progress)
    assert seen == [(10, 100), (20, 100)]
