"""Training of the pair head, after the label stage, on a student that stays as it is."""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from flipkd_sdk.evaluation.metrics import average_precision
from flipkd_sdk.training.head.examples import Opinion, build_examples
from flipkd_sdk.training.head.model import PairHead, TokenStates
from flipkd_sdk.training.head.states import Reduction, StudentTokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.contrast import ContrastSet
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import TrainConfig
    from flipkd_sdk.training.head.examples import Examples
    from flipkd_sdk.training.models.student import Student

    Encode = Callable[[Sequence[str]], NDArray[np.float32]]
    Map = tuple[NDArray[np.float32], NDArray[np.float32]]
    Batch = tuple[tuple[TokenStates, TokenStates, Tensor, Tensor], Tensor, Tensor]

logger = logging.getLogger("flipkd_sdk")

_STATES = (192, 64)
"""Numbers that a hidden state and a token embedding are reduced to for training; the head's maps read these."""
_SAMPLE = 1500
"""Texts that the reduction is found on."""
_TOLERANCE = 0.002
"""Average precision on the development pairs that the head may cost against the cosine."""
_CAUTION = (1.0, 0.85, 0.7, 0.55, 0.4, 0.25)
"""Shares of the head in the logit that are tried, the rest is the cosine's."""
_WARM_UP = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class TrainedHead:
    """A pair head and how it came out."""

    module: PairHead
    tokens: StudentTokens
    share: float
    """Share of the head in the logit; the rest is the cosine's."""
    counts: dict[str, int]
    """Examples by source."""
    contrast: ContrastSet
    history: list[dict[str, float]]
    """Per epoch: loss and average precision on the development pairs."""
    seconds: float

    def score(self, pairs: Pairs) -> NDArray[np.float32]:
        """Return the logit of each pair."""
        self.tokens.add(pairs.texts)
        return _logits(self.module, self.tokens, pairs.a, pairs.b)

    def maps(self) -> tuple[Map, Map]:
        """Return weight and bias of the map from hidden states, and of the one from embeddings, to token vectors."""
        return _composed(self.module.context, self.tokens.context), _composed(self.module.lexical, self.tokens.lexical)


def train_head(
    config: TrainConfig,
    student: Student,
    tokenizer: PreTrainedTokenizerBase,
    train: Pairs,
    dev: Pairs,
    texts: Sequence[str],
    teacher: Encode | None,
    encode: Encode,
) -> TrainedHead:
    """Train a head for a student.

    The development pairs choose the epoch, and how far the head may depart from the cosine: the largest share whose
    average precision is at most `_TOLERANCE` below the cosine's.

    Args:
        config: all options.
        student: trained; stays as it is.
        tokenizer: the student's.
        train: labelled pairs that the noise filter kept.
        dev: development pairs.
        texts: unlabelled texts of the domain, without the development and test pairs' ones.
        teacher: maps texts to the teacher's unit vectors; None where there is none.
        encode: maps words to unit vectors of the teacher, or else of the student.
    """
    started = time.monotonic()
    torch.manual_seed(config.seed)
    options = config.head
    chosen = _choose(train, texts, options.texts, config.seed)
    sample = [chosen[i] for i in np.random.default_rng(config.seed).permutation(len(chosen))[:_SAMPLE]]
    tokens = StudentTokens(student, tokenizer, sample, context=_STATES[0], lexical=_STATES[1])
    tokens.add(chosen)
    opinion = None if teacher is None else Opinion.fitted(teacher, dev)
    examples = build_examples(options, config.contrast, train, chosen, opinion, encode, seed=config.seed)
    for side in (examples.a, examples.b, dev.texts):
        tokens.add(side)
    encoded = time.monotonic() - started
    head = PairHead(
        _first(tokens.context, options.context),
        _first(tokens.lexical, options.lexical),
        neurons=options.neurons,
        decisive=options.neurons,
    )
    history = _optimize(head, tokens, examples, dev, config)
    share = _hold_back(head, tokens, dev)
    seconds = time.monotonic() - started
    logger.info("pair head: %s; %.0f s, of which %.0f s encoding; share %.2f", examples.counts, seconds, encoded, share)
    return TrainedHead(head.eval(), tokens, share, examples.counts, examples.contrast, history, seconds)


def _choose(train: Pairs, texts: Sequence[str], most: int, seed: int) -> list[str]:
    """Return the texts that are encoded: those of the train pairs, and others drawn from the shorter ones."""
    own = list(dict.fromkeys(train.texts))
    others = [text for text in sorted(set(texts) - set(own)) if text.strip()]
    limit = np.median([len(text) for text in own + others]) * 1.5
    others = [text for text in others if len(text) <= limit]
    order = np.random.default_rng(seed).permutation(len(others))
    return own + [others[i] for i in order[: max(0, most - len(own))]]


def _first(reduction: Reduction, size: int) -> tuple[Tensor, Tensor]:
    """Return a map that keeps the first principal directions."""
    return torch.eye(size, len(reduction.directions)), torch.zeros(size)


def _composed(layer: torch.nn.Linear, reduction: Reduction) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    weight, bias = (value.detach().double().numpy() for value in (layer.weight, layer.bias))
    composed = weight @ reduction.directions.astype(np.float64)
    return composed.astype(np.float32), (bias - composed @ reduction.mean).astype(np.float32)


def _optimize(
    head: PairHead, tokens: StudentTokens, examples: Examples, dev: Pairs, config: TrainConfig
) -> list[dict[str, float]]:
    """Train and leave the head at its best epoch on the development pairs, the first one excepted."""
    options = config.head
    batches = _batches(tokens, examples, options.batch_size, config.seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=options.learning_rate, weight_decay=0.02)
    steps = len(batches) * options.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=steps + 1, pct_start=_WARM_UP
    )
    rng = np.random.default_rng(config.seed)
    history: list[dict[str, float]] = []
    best: tuple[float, dict[str, Tensor]] | None = None
    for epoch in range(options.epochs):
        head.train()
        losses = []
        for i in rng.permutation(len(batches)):
            inputs, target, weight = batches[i]
            loss = functional.binary_cross_entropy_with_logits(head(*inputs), target, weight)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        precision = average_precision(_logits(head, tokens, dev.a, dev.b), dev.label)
        history.append({"epoch": epoch + 1, "loss": float(np.mean(losses)), "average_precision": precision})
        # Contrast takes an epoch to be learned at all; after it, a later epoch wins unless it costs precision.
        if best is None or epoch == 1 or precision >= best[0] - _TOLERANCE:
            best = (max(precision, best[0]) if best and epoch > 1 else precision, copy.deepcopy(head.state_dict()))
    if best is not None:
        head.load_state_dict(best[1])
    return history


def _batches(tokens: StudentTokens, examples: Examples, size: int, seed: int) -> list[Batch]:
    """Return batches of pairs of similar length; they stay the same over the epochs, and their order changes."""
    longest = np.maximum(tokens.lengths(examples.a), tokens.lengths(examples.b))
    order = np.argsort(longest + np.random.default_rng(seed).normal(0, 1.5, len(longest)), kind="stable")
    batches = []
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        inputs = tokens.batch([examples.a[i] for i in rows], [examples.b[i] for i in rows])
        batches.append((inputs, torch.from_numpy(examples.target[rows]), torch.from_numpy(examples.weight[rows])))
    return batches


@torch.inference_mode()
def _logits(
    head: PairHead, tokens: StudentTokens, a: Sequence[str], b: Sequence[str], size: int = 128
) -> NDArray[np.float32]:
    head.eval()
    order = np.argsort(tokens.lengths(a) + tokens.lengths(b), kind="stable")
    logits = np.zeros(len(a), np.float32)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        logits[rows] = head(*tokens.batch([a[i] for i in rows], [b[i] for i in rows])).numpy()
    return logits


def _hold_back(head: PairHead, tokens: StudentTokens, dev: Pairs) -> float:
    """Mix the cosine into the head's logit as far as the development pairs ask for; return the head's share."""
    logits = _logits(head, tokens, dev.a, dev.b)
    cosines = tokens.batch(dev.a, dev.b)[2].numpy()
    floor = average_precision(cosines, dev.label) - _TOLERANCE
    steepness = float(logits.std() / max(float(cosines.std()), 1e-6))
    share = next(
        (s for s in _CAUTION if average_precision(s * logits + (1 - s) * steepness * cosines, dev.label) >= floor),
        _CAUTION[-1],
    )
    with torch.no_grad():
        for value in (head.decide_2.weight, head.decide_2.bias, head.cosine):
            value.mul_(share)
        head.cosine.add_((1 - share) * steepness)
    return share
