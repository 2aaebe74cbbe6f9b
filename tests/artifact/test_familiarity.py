from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from flipkd_sdk.artifact.familiarity import CENTROIDS, FILE, MAX_BYTES, fit_sketch, read_sketch, write_sketch
from flipkd_sdk.errors import MatcherDirectoryError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DIMENSION = 16


def near(directions: NDArray[np.float64], count: int, seed: int, noise: float = 0.1) -> NDArray[np.float32]:
    """Unit vectors close to a few directions."""
    random = np.random.default_rng(seed)
    vectors = directions[random.integers(len(directions), size=count)] + noise * random.standard_normal(
        (count, directions.shape[1])
    )
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


DIRECTIONS = np.eye(DIMENSION)[:4]
TRAIN, HELD_OUT = near(DIRECTIONS, 300, 0), near(DIRECTIONS, 100, 1)
SKETCH = fit_sketch(TRAIN, HELD_OUT)


def test_held_out_vectors_spread_over_the_quantiles_and_others_lie_below_them() -> None:
    quantiles = SKETCH.quantile(SKETCH.similarity(HELD_OUT))
    assert np.quantile(quantiles, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.02)
    strangers = near(np.eye(DIMENSION)[8:], 50, 2)
    assert (SKETCH.quantile(SKETCH.similarity(strangers)) == 0).all()
    assert (SKETCH.similarity(strangers) < SKETCH.similarity(HELD_OUT).min()).all()


def test_centroids_are_close_to_the_directions_of_the_texts() -> None:
    assert SKETCH.centroids.shape == (300 // 4, DIMENSION)
    assert (DIRECTIONS @ SKETCH.centroids.astype(np.float64).T).max(axis=1).min() > 0.95


def test_their_number_is_bounded_and_a_single_text_makes_one() -> None:
    assert len(fit_sketch(near(DIRECTIONS, 5 * CENTROIDS, 3), HELD_OUT).centroids) == CENTROIDS
    one = fit_sketch(TRAIN[:1], HELD_OUT)
    assert one.similarity(TRAIN[:1]) == pytest.approx(1, abs=1e-3)
    same = fit_sketch(np.repeat(TRAIN[:1], 50, axis=0), HELD_OUT)
    assert np.isfinite(same.centroids).all()


def test_the_same_vectors_give_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_sketch(tmp_path / name, fit_sketch(TRAIN, HELD_OUT))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    read = read_sketch(tmp_path / "one", dimension=DIMENSION)
    assert np.array_equal(read.similarity(HELD_OUT), SKETCH.similarity(HELD_OUT))


def archive(**arrays: NDArray[np.generic]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def huge() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("centroids.npy", b"\0" * (MAX_BYTES + 1))
        file.writestr("quantiles.npy", b"")
    return content.getvalue()


C, Q = SKETCH.centroids, SKETCH.quantiles


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not the familiarity sketch of this matcher"),
        (b"nothing", "not the familiarity sketch"),
        (archive(centroids=C), "other arrays"),
        (archive(centroids=C, quantiles=Q, more=Q), "other arrays"),
        (archive(centroids=C.astype(np.float32), quantiles=Q), "not float16"),
        (archive(centroids=C * 2, quantiles=Q), "not unit vectors"),
        (archive(centroids=C * np.float16("nan"), quantiles=Q), "not unit vectors"),
        (archive(centroids=C, quantiles=Q[::-1].copy()), "do not rise"),
        (archive(centroids=C, quantiles=Q[:-1]), "shapes"),
        (archive(centroids=C[:0], quantiles=Q), "shapes"),
        (archive(centroids=C[:, :8] / np.linalg.norm(C[:, :8], axis=1, keepdims=True), quantiles=Q), ""),
        (archive(centroids=np.array([object()]), quantiles=Q), "not the familiarity sketch"),
        (huge(), "other arrays"),
    ],
)
def test_a_malformed_sketch_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(MatcherDirectoryError, match=message) as caught:
        read_sketch(tmp_path / FILE, dimension=DIMENSION)
    assert FILE in str(caught.value)
    assert "\n" not in str(caught.value)
