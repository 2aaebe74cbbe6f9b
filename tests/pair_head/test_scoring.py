"""The pair head in numpy: the torch module's numbers, the same for a pair in any batch and either order."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from flipkd_sdk.errors import MatcherDirectoryError
from flipkd_sdk.pair_head.cues import CUES, EARLIER_CUES, CueReader
from flipkd_sdk.pair_head.scoring import Tokens, cosine_logits, directions, pair_logits
from flipkd_sdk.pair_head.weights import read_weights, write_weights
from flipkd_sdk.training.head.model import PairHead, TokenStates

CONTEXT, LEXICAL = 5, 3
WIDTH = 8
READER = CueReader(["not", "nie"], {"two": 2, "half": 0.5})


def make_head(seed=0):
    torch.manual_seed(seed)
    maps = [(torch.randn(size, width), torch.randn(size)) for size, width in ((CONTEXT, 12), (LEXICAL, 10))]
    head = PairHead(*maps, neurons=6, decisive=7, cosine=(9.0, -2.0))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return head.eval()


def make_states(rng, count, width):
    lengths = rng.integers(1, width + 1, count)
    real = np.arange(width) < lengths[:, None]
    ids = np.where(real, rng.integers(0, 6, real.shape), -1)
    parts = [torch.from_numpy(rng.normal(size=(count, width, size)).astype(np.float32)) for size in (12, 10)]
    return TokenStates(torch.from_numpy(ids), *(part * torch.from_numpy(real)[..., None] for part in parts))


@torch.inference_mode()
def tokens_of(head, *sides):
    ids = np.concatenate([states.ids.numpy() for states in sides])
    vectors = torch.cat([torch.cat(head._vectors(states), dim=-1) for states in sides]).numpy()
    return Tokens(ids, vectors, directions(head.weights(READER), vectors))


def one_pair(tokens, i):
    rows = [i, i + len(tokens.ids) // 2]
    return Tokens(*(part[rows].copy() for part in tokens))


@pytest.fixture(scope="module")
def case():
    rng, head = np.random.default_rng(0), make_head()
    a, b = make_states(rng, 9, WIDTH), make_states(rng, 9, WIDTH)
    cosines = rng.uniform(-1, 1, 9).astype(np.float32)
    cues = rng.integers(0, 2, (9, CUES)).astype(np.float32)
    return head, a, b, cosines, cues


def test_numpy_computes_what_torch_computes(case):
    head, a, b, cosines, cues = case
    with torch.inference_mode():
        expected = head(a, b, torch.from_numpy(cosines), torch.from_numpy(cues)).numpy()
    found = pair_logits(head.weights(READER), tokens_of(head, a, b), cosines, cues)
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-5)
    assert np.ptp(expected) > 0.1


def test_a_pair_has_the_same_bits_alone_and_in_a_batch(case):
    head, a, b, cosines, cues = case
    weights, tokens = head.weights(READER), tokens_of(head, a, b)
    together = pair_logits(weights, tokens, cosines, cues)
    for i in range(len(together)):
        one = slice(i, i + 1)
        assert pair_logits(weights, one_pair(tokens, i), cosines[one], cues[one]).tobytes() == together[one].tobytes()


def test_the_order_of_the_texts_does_not_matter(case):
    head, a, b, cosines, cues = case
    weights = head.weights(READER)
    forward = pair_logits(weights, tokens_of(head, a, b), cosines, cues)
    assert pair_logits(weights, tokens_of(head, b, a), cosines, cues).tobytes() == forward.tobytes()


def test_texts_that_differ_in_form_only_are_left_to_the_cosine(case):
    head, a, b, cosines, cues = case
    weights, equal_form = head.weights(READER), cues.copy()
    equal_form[:, EARLIER_CUES - 1] = 1
    found = pair_logits(weights, tokens_of(head, a, b), cosines, equal_form)
    np.testing.assert_allclose(found, cosine_logits(weights, cosines), rtol=1e-6)


def test_texts_that_share_no_words_are_left_to_the_cosine(case):
    head, a, b, cosines, cues = case
    weights, strangers = head.weights(READER), cues.copy()
    strangers[:, [1, 4, CUES - 1]] = 0
    found = pair_logits(weights, tokens_of(head, a, b), cosines, strangers)
    np.testing.assert_allclose(found, cosine_logits(weights, cosines), rtol=1e-6)


def test_a_head_of_an_earlier_release_reads_the_first_cues_only(case, tmp_path):
    head, a, b, cosines, cues = case
    weights, open_cues = head.weights(READER), cues.copy()
    open_cues[:, EARLIER_CUES - 1], open_cues[:, 1] = 0, 1
    without_last = replace(weights, decide_1=np.delete(weights.decide_1, -1, axis=1))
    blind = weights.decide_1.copy()
    blind[:, -1] = 0
    write_weights(tmp_path / "head.npz", without_last)
    old = read_weights(tmp_path / "head.npz", dimension=CONTEXT + LEXICAL)
    tokens = tokens_of(head, a, b)
    expected = pair_logits(replace(weights, decide_1=blind), tokens, cosines, open_cues)
    np.testing.assert_allclose(pair_logits(old, tokens, cosines, open_cues), expected, atol=1e-5)


def test_weights_survive_a_file(tmp_path):
    weights = make_head().weights(READER)
    write_weights(tmp_path / "head.npz", weights)
    again = read_weights(tmp_path / "head.npz", dimension=CONTEXT + LEXICAL)
    for name in weights.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(weights, name))


def test_weights_for_other_token_vectors_are_refused(tmp_path):
    write_weights(tmp_path / "head.npz", make_head().weights(READER))
    with pytest.raises(MatcherDirectoryError, match="dimension 8 instead of 9"):
        read_weights(tmp_path / "head.npz", dimension=9)
