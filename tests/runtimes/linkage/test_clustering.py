from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from flipkd_sdk.runtimes.linkage.clustering import Edges, Line, Merges, components, merges
from flipkd_sdk.runtimes.linkage.dendrogram import Counts, dendrogram
from flipkd_sdk.runtimes.linkage.near_pairs import near_pairs

LINE = Line(8.0, -3.0)


def vectors(rows: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = random.standard_normal((rows // 6, 12))
    found = centres[random.integers(0, len(centres), rows)] + 0.6 * random.standard_normal((rows, 12))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def edges_of(found: np.ndarray, least: float, change: np.ndarray | None = None) -> Edges:
    pairs = near_pairs(found, least=(least - LINE.intercept) / LINE.slope - 0.3, most=len(found))
    expected = LINE.slope * pairs.cosine.astype(np.float64) + LINE.intercept
    value = expected if change is None else expected + change[pairs.a, pairs.b]
    return Edges(pairs.a, pairs.b, value, expected)


def same_groups(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(((a[:, None] == a) == (b[:, None] == b)).all())


@pytest.mark.parametrize("method", ["average", "complete", "components"])
@pytest.mark.parametrize("least", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_groups_are_those_of_scipy(method: str, least: float, seed: int) -> None:
    found = vectors(80, seed)
    values = LINE.slope * (found.astype(np.float64) @ found.T) + LINE.intercept
    distance = 100 - values
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "single" if method == "components" else method)
    made = merges(edges_of(found, least), found, LINE, linkage=method, least=least)
    for cut in (least, least + 1):
        assert same_groups(made.labels(80, cut), fcluster(tree, 100 - cut, "distance"))


def test_a_head_moves_the_mean_by_the_pairs_that_it_scored() -> None:
    found = vectors(60)
    random = np.random.default_rng(3)
    change = random.normal(0, 1.0, (60, 60))
    change = np.triu(change, 1) + np.triu(change, 1).T
    edges = edges_of(found, 1.0, change)
    values = LINE.slope * (found.astype(np.float64) @ found.T) + LINE.intercept
    values[edges.a, edges.b] = values[edges.b, edges.a] = edges.value
    distance = 100 - values
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    made = merges(edges, found, LINE, linkage="average", least=1.0)
    assert same_groups(made.labels(60, 1.0), fcluster(tree, 99.0, "distance"))


def test_a_chain_is_one_component_and_no_complete_group() -> None:
    angles = np.radians(np.arange(6) * 30)
    found = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    edges = edges_of(found, 3.5)
    groups = {
        name: len(set(merges(edges, found, LINE, linkage=name, least=3.5).labels(6, 3.5).tolist()))
        for name in ("average", "complete", "components")
    }
    assert groups == {"average": 3, "complete": 3, "components": 1}


@pytest.mark.parametrize("seed", range(5))
def test_components_are_those_of_a_search_through_the_graph(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.integers(0, 60, (2, 45))
    labels = list(range(60))
    for _ in range(60):
        for i, j in zip(a, b, strict=True):
            labels[i] = labels[j] = min(labels[i], labels[j])
    assert components(60, a, b).tolist() == labels


def test_merges_come_from_the_highest_to_the_lowest_and_groups_are_nested() -> None:
    found = vectors(80)
    made = merges(edges_of(found, 0.0), found, LINE, linkage="average", least=0.0)
    assert (np.diff(made.value) <= 0).all()
    coarse = made.labels(80, 0.0)
    for least in (1.0, 2.0, 4.0):
        fine = made.labels(80, least)
        assert all(len(set(coarse[fine == label].tolist())) == 1 for label in set(fine.tolist()))


def made(linkage: str, seed: int) -> Merges:
    found = vectors(80, seed)
    return merges(edges_of(found, 0.0), found, LINE, linkage=linkage, least=0.0)


@pytest.mark.parametrize("linkage", ["average", "complete", "components"])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("least", [0.0, 0.7, 1.5, 2.5, 9.0])
def test_at_every_threshold_the_groups_are_runs_and_are_counted(linkage: str, seed: int, least: float) -> None:
    rows = np.random.default_rng(seed).integers(1, 4, 80)
    found = made(linkage, seed)
    tree = dendrogram(found, rows)
    assert sorted(tree.order.tolist()) == list(range(80))
    labels = found.labels(80, least)[tree.order]
    assert np.array_equal(np.flatnonzero(tree.joined < least)[1:], np.flatnonzero(np.diff(labels)) + 1)
    sizes = np.bincount(labels, rows[tree.order]).astype(int)
    sizes = sizes[sizes > 0]
    several = sizes[sizes > 1]
    assert tree.counts(least) == Counts(len(sizes), len(several), several.sum(), sizes.max())


@pytest.mark.parametrize("rows", [[], [1], [3, 1]])
def test_without_merges_each_text_is_a_group(rows: list[int]) -> None:
    nothing = Merges(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    tree = dendrogram(nothing, np.array(rows, dtype=np.int64))
    assert tree.order.tolist() == list(range(len(rows)))
    assert (tree.joined == -np.inf).all()
    several = [size for size in rows if size > 1]
    assert tree.counts(0.0) == Counts(len(rows), len(several), sum(several), max(rows, default=0))
