from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flipkd_sdk.training.losses import (
    cosent,
    label_lm,
    margin_contrastive,
    pair_regression,
    similarity_regression,
    vector_alignment,
)

if TYPE_CHECKING:
    from torch import Tensor

cosines = st.floats(-1, 1, width=32)
pairs = st.lists(st.tuples(cosines, cosines, st.integers(0, 1)), min_size=1, max_size=6)


def plain_cosent(s: list[float], y: list[int], scale: float) -> float:
    total = 1.0
    for u in range(len(s)):
        for v in range(len(s)):
            if y[u] > y[v]:
                total += math.exp(scale * (s[v] - s[u]))
    return math.log(total)


def plain_mcl(
    s: list[float], t: list[float], y: list[int], s_neg: list[float], t_neg: list[float], **options: float
) -> float:
    margin, scale, tolerance = options["margin"], options["scale"], options["tolerance"]
    labelled, in_batch = [], []
    for u in range(len(s)):
        for v in range(len(s)):
            if y[u] > y[v]:
                labelled.append(s[v] - s[u] + max(t[u] - t[v], margin))
            elif y[u] == y[v] and t[u] - t[v] > tolerance:
                labelled.append(s[v] - s[u] + t[u] - t[v])
        for negative, teacher in zip(s_neg, t_neg, strict=True):
            if y[u] == 1:
                in_batch.append(negative - s[u] + max(t[u] - teacher, margin))
    hinges = [[math.log1p(math.exp(scale * x)) / scale for x in couples] for couples in (labelled, in_batch)]
    return sum(sum(couples) / max(len(couples), 1) for couples in hinges)


def unit(rows: int, columns: int, seed: int) -> Tensor:
    vectors = torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, columns))).float()
    return torch.nn.functional.normalize(vectors, dim=1)


@given(pairs, st.sampled_from([1.0, 20.0]))
def test_cosent_is_its_formula(rows: list[tuple[float, float, int]], scale: float) -> None:
    s, _, y = (list(column) for column in zip(*rows, strict=True))
    loss = cosent(torch.tensor(s), torch.tensor(y), scale=scale)
    assert float(loss) == pytest.approx(plain_cosent(s, y, scale), rel=1e-4, abs=1e-5)


@given(pairs, st.lists(st.tuples(cosines, cosines), max_size=3))
def test_mcl_is_its_formula(rows: list[tuple[float, float, int]], negatives: list[tuple[float, float]]) -> None:
    # A teacher difference of just about the tolerance may fall on either side of it in float32.
    s, t, y = [row[0] for row in rows], [round(row[1], 1) for row in rows], [row[2] for row in rows]
    s_neg, t_neg = [row[0] for row in negatives], [row[1] for row in negatives]
    options = {"margin": 0.1, "scale": 20.0, "tolerance": 0.05}
    loss = margin_contrastive(
        torch.tensor(s),
        torch.tensor(t),
        torch.tensor(y),
        in_batch_student=torch.tensor(s_neg),
        in_batch_teacher=torch.tensor(t_neg),
        **options,
    )
    assert float(loss) == pytest.approx(plain_mcl(s, t, y, s_neg, t_neg, **options), rel=1e-4, abs=1e-5)


def test_mcl_without_in_batch_negatives_is_that_with_none() -> None:
    s, t, y = torch.tensor([0.2, 0.5]), torch.tensor([0.9, 0.1]), torch.tensor([1, 0])
    none = torch.empty(0)
    assert margin_contrastive(s, t, y) == margin_contrastive(s, t, y, in_batch_student=none, in_batch_teacher=none)


def mcl(s: list[float], t: list[float], y: list[int], **options: float) -> float:
    return float(margin_contrastive(torch.tensor(s), torch.tensor(t), torch.tensor(y), **options))


def test_mcl_of_couples_that_keep_their_margin_vanishes_as_the_hinge_sharpens() -> None:
    t, y = [0.9, 0.7, 0.3, 0.1], [1, 1, 0, 0]
    kept = [0.95, 0.74, 0.2, -0.1]  # further apart than the teacher's differences, which are above the margin
    assert mcl(kept, t, y, margin=0.3, scale=1000.0) == pytest.approx(0.0, abs=1e-6)


def test_mcl_tends_to_the_mean_violation_as_the_hinge_sharpens() -> None:
    t, y = [0.9, 0.3, 0.3], [1, 0, 0]
    s = [0.5, 0.4, -0.4]  # gaps of 0.1 and 0.9, where 0.6 is wanted
    assert mcl(s, t, y, scale=1000.0) == pytest.approx(0.5 / 2, abs=1e-3)


def test_mcl_asks_for_the_margin_where_the_teacher_is_wrong() -> None:
    s, t, y = [0.5, 0.5], [0.3, 0.9], [1, 0]
    assert mcl(s, t, y, margin=0.1, scale=1000.0) == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("label", [0, 1])
def test_mcl_orders_pairs_of_one_class_only_beyond_the_tolerance(label: int) -> None:
    s, y = [0.1, 0.5], [label, label]  # the wrong way round
    assert mcl(s, [0.60, 0.57], y, tolerance=0.05) == 0.0
    assert mcl(s, [0.60, 0.50], y, tolerance=0.05) >= 0.5


def test_mcl_has_no_margin_inside_a_class() -> None:
    s, t = [0.5, 0.3], [0.9, 0.7]
    assert mcl(s, t, [1, 1], margin=0.0) == mcl(s, t, [1, 1], margin=0.5)
    assert mcl(s, t, [1, 0], margin=0.0) < mcl(s, t, [1, 0], margin=0.5)


def test_in_batch_negatives_stand_below_positives_alone() -> None:
    far_above, low = torch.tensor([0.9]), torch.tensor([0.0])
    negatives: dict[str, Any] = {"in_batch_student": far_above, "in_batch_teacher": low}
    s, t = torch.tensor([0.2]), torch.tensor([0.8])
    assert margin_contrastive(s, t, torch.tensor([0]), **negatives) == 0.0
    assert margin_contrastive(s, t, torch.tensor([1]), **negatives) > 1.0


def test_similarity_regression_is_the_mean_over_couples_of_different_texts() -> None:
    student, teacher = unit(5, 4, 0), unit(5, 7, 1)
    expected = np.mean(
        [
            (float(student[i] @ student[j]) - float(teacher[i] @ teacher[j])) ** 2
            for i in range(5)
            for j in range(5)
            if i != j
        ]
    )
    assert float(similarity_regression(student, teacher)) == pytest.approx(expected, rel=1e-5)


def test_similarity_regression_sees_no_difference_in_a_rotation() -> None:
    teacher = unit(6, 4, 2)
    rotation, _ = torch.linalg.qr(unit(4, 4, 3))
    assert float(similarity_regression(teacher @ rotation, teacher)) == pytest.approx(0.0, abs=1e-6)


@given(st.lists(st.tuples(cosines, cosines), min_size=1, max_size=6))
def test_pair_regression_is_the_mean_square(rows: list[tuple[float, float]]) -> None:
    s, t = (list(column) for column in zip(*rows, strict=True))
    expected = sum((x - y) ** 2 for x, y in rows) / len(rows)
    assert float(pair_regression(torch.tensor(s), torch.tensor(t))) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_vector_alignment_is_the_mean_distance_in_cosine() -> None:
    student, target = unit(5, 4, 0), unit(5, 4, 1)
    expected = np.mean([1 - float(student[i] @ target[i]) for i in range(5)])
    assert float(vector_alignment(student, target)) == pytest.approx(expected, rel=1e-5)
    assert float(vector_alignment(student, student)) == pytest.approx(0.0, abs=1e-6)
    assert float(vector_alignment(student, -student)) == pytest.approx(2.0, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "labels"),
    [([0.3], [1]), ([0.3], [0]), ([0.3, 0.9], [1, 1]), ([0.3, 0.9], [0, 0]), ([0.5, 0.5, 0.5], [1, 0, 1]), ([], [])],
    ids=["one positive", "one negative", "positives", "negatives", "all equal", "none"],
)
def test_losses_of_degenerate_batches_are_finite_and_so_are_their_gradients(
    values: list[float], labels: list[int]
) -> None:
    s = torch.tensor(values, requires_grad=True)
    t, y = torch.full((len(values),), 0.5), torch.tensor(labels, dtype=torch.int64)
    for loss in (cosent(s, y), margin_contrastive(s, t, y)):
        (gradient,) = torch.autograd.grad(loss, s)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
        if len(set(labels)) < 2:
            assert loss == 0.0
            assert not gradient.any()


five_logits = st.lists(st.floats(-30, 30, width=32), min_size=5, max_size=5)


@given(st.lists(st.tuples(five_logits, st.integers(0, 4)), max_size=4))
def test_label_lm_is_its_formula(rows: list[tuple[list[float], int]]) -> None:
    logits, words = torch.tensor([row[0] for row in rows]).reshape(-1, 5), torch.tensor([row[1] for row in rows]).long()
    expected = [math.log(sum(map(math.exp, values))) - values[word] for values, word in rows]
    assert float(label_lm(logits, words)) == pytest.approx(sum(expected) / max(len(rows), 1), rel=1e-4, abs=1e-5)


def test_label_lm_of_half_precision_does_not_overflow() -> None:
    loss = label_lm(torch.full((1, 4), 6e4, dtype=torch.float16), torch.tensor([2]))
    assert float(loss) == pytest.approx(math.log(4), rel=1e-5)


def test_a_single_text_has_no_similarity_to_regress() -> None:
    one = unit(1, 3, 0).requires_grad_()
    loss = similarity_regression(one, unit(1, 3, 1))
    (gradient,) = torch.autograd.grad(loss, one)
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(gradient).all()


def test_extreme_scales_neither_overflow_nor_vanish() -> None:
    s = torch.tensor([-1.0, 1.0], requires_grad=True)
    for loss in (
        cosent(s, torch.tensor([1, 0]), scale=1e4),
        margin_contrastive(s, torch.tensor([1.0, -1.0]), torch.tensor([1, 0]), scale=1e4),
    ):
        (gradient,) = torch.autograd.grad(loss, s)
        assert torch.isfinite(loss)
        assert gradient[0] < 0 < gradient[1]
