from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from flipkd_sdk.training.config.schema import LossConfig
from flipkd_sdk.training.losses import cosent, label_lm, margin_contrastive, similarity_regression, vector_alignment
from flipkd_sdk.training.losses.objective import flipped_distillation

CONFIG = LossConfig(scale=1.0)
"""With a blunt hinge every couple counts; a sharp one hides all but the worst."""


def random_batch(pairs: int, *, seed: int = 0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    rng = np.random.default_rng(seed)
    vectors, teacher, target = (
        normalize(torch.from_numpy(rng.standard_normal((2 * pairs, width))).float(), dim=1) for width in (5, 7, 5)
    )
    batch = {
        "teacher": teacher,
        "target": target,
        "text": torch.arange(2 * pairs),
        "label": torch.tensor([i % 2 for i in range(pairs)]),
        "keep": torch.ones(pairs, dtype=torch.bool),
    }
    return vectors, batch


def contrast(vectors: torch.Tensor, batch: dict[str, torch.Tensor], negatives: list[tuple[int, int]]) -> float:
    """L_mcl with the in-batch negatives (a_i, b_j) spelt out."""
    first, second = vectors.chunk(2)
    teacher_first, teacher_second = batch["teacher"].chunk(2)
    rows, columns = (torch.tensor([couple[side] for couple in negatives], dtype=torch.int64) for side in (0, 1))
    keep = batch["keep"]
    loss = margin_contrastive(
        (first * second).sum(1)[keep],
        (teacher_first * teacher_second).sum(1)[keep],
        batch["label"][keep],
        in_batch_student=(first[rows] * second[columns]).sum(1),
        in_batch_teacher=(teacher_first[rows] * teacher_second[columns]).sum(1),
        margin=CONFIG.margin,
        scale=CONFIG.scale,
        tolerance=CONFIG.tolerance,
    )
    return float(loss)


def test_a_batch_of_texts_has_the_terms_of_distillation() -> None:
    vectors, batch = random_batch(3)
    unlabelled = {name: batch[name] for name in ("teacher", "target", "text")}
    terms = flipped_distillation(vectors, unlabelled, LossConfig(similarity=2.0, alignment=3.0))
    assert terms.keys() == {"similarity", "alignment"}
    assert torch.equal(terms["similarity"], 2.0 * similarity_regression(vectors, batch["teacher"]))
    assert torch.equal(terms["alignment"], 3.0 * vector_alignment(vectors, batch["target"]))


def test_terms_of_weight_0_are_left_out() -> None:
    vectors, batch = random_batch(3)
    terms = flipped_distillation(vectors, batch, LossConfig(similarity=0.0, alignment=0.0, mcl=2.0))
    assert terms.keys() == {"mcl"}
    whole = flipped_distillation(vectors, batch, LossConfig())
    assert whole.keys() == {"similarity", "alignment", "mcl"}
    assert torch.equal(terms["mcl"], 2.0 * whole["mcl"])


def test_labels_alone_are_cosent_on_the_pairs_that_are_kept() -> None:
    vectors, batch = random_batch(5)
    batch["keep"][1] = False
    terms = flipped_distillation(vectors, batch, LossConfig(similarity=0, alignment=0, mcl=0, cosent=2, scale=3))
    first, second = vectors.chunk(2)
    kept = [0, 2, 3, 4]
    expected = 2 * cosent((first * second).sum(1)[kept], batch["label"][kept], scale=3)
    assert terms.keys() == {"cosent"}
    assert torch.equal(terms["cosent"], expected)


def test_the_label_word_is_learnt_of_the_pairs_that_are_kept() -> None:
    vectors, batch = random_batch(4)
    batch["keep"][3] = False
    batch["logits"] = torch.randn(4, 9, generator=torch.Generator().manual_seed(1))
    batch["word"] = torch.tensor([2, 5, 2, 5])
    assert "label_lm" not in flipped_distillation(vectors, batch, LossConfig())
    term = flipped_distillation(vectors, batch, LossConfig(label_lm=0.5))["label_lm"]
    assert torch.equal(term, 0.5 * label_lm(batch["logits"][:3], batch["word"][:3]))


def teacher_of(matrix: list[list[float]]) -> torch.Tensor:
    """Unit vectors of a and b texts whose cosines cos(a_i, b_j) are the matrix."""
    wanted = torch.tensor(matrix)
    # b_j are basis vectors; a_i carries its cosines, and what length is missing in a dimension of its own.
    rest = (1 - wanted.square().sum(1)).sqrt()
    count = len(matrix)
    a = torch.cat([wanted, torch.diag(rest)], dim=1)
    b = torch.cat([torch.eye(count), torch.zeros(count, count)], dim=1)
    return torch.cat([a, b])


@pytest.fixture
def batch() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    vectors, batch = random_batch(3)
    batch["label"] = torch.tensor([1, 0, 1])
    batch["teacher"] = teacher_of([[0.6, 0.1, 0.2], [0.0, 0.5, 0.3], [0.1, 0.2, 0.8]])  # matches: 0.7 on average
    return vectors, batch


OTHERS = [(i, j) for i in range(3) for j in range(3) if i != j]


def mcl_term(vectors: torch.Tensor, batch: dict[str, torch.Tensor]) -> float:
    return float(flipped_distillation(vectors, batch, CONFIG)["mcl"])


def test_every_other_pair_of_the_batch_is_a_negative(batch: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> None:
    assert mcl_term(*batch) == pytest.approx(contrast(*batch, OTHERS), rel=1e-6)


def test_a_text_is_no_negative_of_itself(batch: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> None:
    vectors, inputs = batch
    inputs["text"] = torch.tensor([0, 1, 2, 3, 0, 5])  # the second b is the first a
    assert mcl_term(*batch) == pytest.approx(contrast(vectors, inputs, [c for c in OTHERS if c != (0, 1)]), rel=1e-6)


@pytest.mark.parametrize(
    ("texts", "masked"),
    [
        ([0, 0, 2, 3, 4, 5], [(0, 1), (1, 0)]),  # a_0 is a_1, so (a_0, b_1) is the labelled pair 1
        ([0, 1, 2, 3, 4, 4], [(1, 2), (2, 1)]),  # b_1 is b_2
        ([0, 0, 2, 3, 4, 4], [(0, 1), (1, 0), (1, 2), (2, 1)]),
    ],
)
def test_a_labelled_pair_of_the_batch_is_no_unlabelled_negative(
    batch: tuple[torch.Tensor, dict[str, torch.Tensor]], texts: list[int], masked: list[tuple[int, int]]
) -> None:
    vectors, inputs = batch
    inputs["text"] = torch.tensor(texts)
    left = [couple for couple in OTHERS if couple not in masked]
    assert mcl_term(*batch) == pytest.approx(contrast(vectors, inputs, left), rel=1e-6)


def test_a_filtered_match_does_not_say_how_close_a_match_is(
    batch: tuple[torch.Tensor, dict[str, torch.Tensor]],
) -> None:
    vectors, inputs = batch
    inputs["teacher"] = teacher_of([[0.0, 0.69, 0.2], [0.0, 0.5, 0.75], [0.1, 0.2, 0.6]])
    inputs["keep"] = torch.tensor([False, True, True])  # of the matches, the one at 0.6 alone counts
    left = [couple for couple in OTHERS if couple not in [(0, 1), (1, 2)]]
    assert mcl_term(*batch) == pytest.approx(contrast(vectors, inputs, left), rel=1e-6)


def plain_objective(vectors: np.ndarray, teacher: np.ndarray, texts: list[int], label: list[int]) -> float:
    """L_mcl over labelled and in-batch pairs, in loops."""
    count = len(label)
    a, b, ta, tb = vectors[:count], vectors[count:], teacher[:count], teacher[count:]
    labelled = [(float(a[i] @ b[i]), float(ta[i] @ tb[i]), label[i]) for i in range(count)]
    matches = [t for _, t, y in labelled if y == 1]
    others = []
    for i in range(count):
        for j in range(count):
            known = texts[i] == texts[j] or texts[count + i] == texts[count + j] or texts[i] == texts[count + j]
            if not known and float(ta[i] @ tb[j]) < sum(matches) / len(matches):
                others.append((float(a[i] @ b[j]), float(ta[i] @ tb[j])))
    couples, in_batch = [], []
    for s_u, t_u, y_u in labelled:
        for s_v, t_v, y_v in labelled:
            if y_u > y_v:  # the zone between the classes
                couples.append(s_v - s_u + max(t_u - t_v, CONFIG.margin))
            elif y_u == y_v and t_u > t_v + CONFIG.tolerance:  # the zones inside each class
                couples.append(s_v - s_u + t_u - t_v)
        in_batch += [s_v - s_u + max(t_u - t_v, CONFIG.margin) for s_v, t_v in others if y_u == 1]
    zones = [[math.log1p(math.exp(CONFIG.scale * x)) / CONFIG.scale for x in zone] for zone in (couples, in_batch)]
    return sum(sum(zone) / max(len(zone), 1) for zone in zones)


@pytest.mark.parametrize("seed", range(5))
def test_the_whole_of_mcl_is_its_formula_in_loops(seed: int) -> None:
    vectors, batch = random_batch(6, seed=seed)
    batch["text"] = torch.from_numpy(np.random.default_rng(seed).integers(9, size=12))  # some texts stand twice
    expected = plain_objective(
        vectors.numpy(), batch["teacher"].numpy(), batch["text"].tolist(), batch["label"].tolist()
    )
    assert mcl_term(vectors, batch) == pytest.approx(expected, rel=1e-5)


def test_what_the_teacher_sees_as_close_as_a_match_is_no_negative(
    batch: tuple[torch.Tensor, dict[str, torch.Tensor]],
) -> None:
    vectors, inputs = batch
    inputs["teacher"] = teacher_of([[0.6, 0.69, 0.2], [0.0, 0.5, 0.75], [0.1, 0.2, 0.8]])  # 0.7 lies between
    assert mcl_term(*batch) == pytest.approx(contrast(vectors, inputs, [c for c in OTHERS if c != (1, 2)]), rel=1e-6)


def test_a_filtered_pair_leaves_the_label_term_and_stays_in_the_distillation(
    batch: tuple[torch.Tensor, dict[str, torch.Tensor]],
) -> None:
    vectors, inputs = batch
    whole = flipped_distillation(vectors, inputs, CONFIG)
    inputs["keep"] = torch.tensor([False, True, True])
    filtered = flipped_distillation(vectors, inputs, CONFIG)
    assert float(filtered["mcl"]) == pytest.approx(contrast(vectors, inputs, OTHERS), rel=1e-6)
    assert filtered["mcl"] != whole["mcl"]
    assert torch.equal(filtered["similarity"], whole["similarity"])
    assert torch.equal(filtered["alignment"], whole["alignment"])


@pytest.mark.parametrize("labels", [[0], [1], [0, 0, 0], [1, 1, 1]])
@pytest.mark.parametrize("kept", [True, False])
def test_batches_of_one_pair_or_one_class_have_finite_gradients(labels: list[int], kept: bool) -> None:
    vectors, batch = random_batch(len(labels))
    batch |= {"label": torch.tensor(labels), "keep": torch.full((len(labels),), kept)}
    vectors.requires_grad_()
    loss = torch.stack(list(flipped_distillation(vectors, batch, LossConfig()).values())).sum()
    (gradient,) = torch.autograd.grad(loss, vectors)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_scores_of_pairs_stand_in_for_vectors() -> None:
    vectors, inputs = random_batch(4)
    batch = {name: inputs[name] for name in ("text", "label", "keep")}
    batch["teacher_score"] = torch.tensor([0.1, 0.9, 0.3, 0.6])
    terms = flipped_distillation(vectors, batch, CONFIG)
    assert terms.keys() == {"similarity", "mcl"}
    first, second = vectors.chunk(2)
    own = (first * second).sum(1)
    assert float(terms["similarity"]) == pytest.approx(float(((own - batch["teacher_score"]) ** 2).mean()), rel=1e-5)
    others = torch.tensor([float(first[i] @ second[j]) for i in range(4) for j in range(4) if i != j])
    expected = margin_contrastive(
        own,
        batch["teacher_score"],
        batch["label"],
        in_batch_student=others,
        in_batch_teacher=torch.full((12,), 0.2),  # the mean of the labelled non-matches
        margin=CONFIG.margin,
        scale=CONFIG.scale,
        tolerance=CONFIG.tolerance,
    )
    assert float(terms["mcl"]) == pytest.approx(float(expected), rel=1e-5)
    batch["label"] = torch.ones(4, dtype=torch.int64)
    assert torch.isfinite(flipped_distillation(vectors, batch, CONFIG)["mcl"])
