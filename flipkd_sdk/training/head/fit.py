"""Training of the pair head, after the label stage, on a student that stays as it is."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from flipkd_sdk.evaluation import calibration
from flipkd_sdk.evaluation.metrics import average_precision
from flipkd_sdk.training.head.examples import Opinion, build_examples, cue_reader, language_pack
from flipkd_sdk.training.head.model import PairHead, TokenStates
from flipkd_sdk.training.head.states import Reduction, StudentTokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.contrast import ContrastSet, LanguagePack
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import TrainConfig
    from flipkd_sdk.training.head.examples import Examples
    from flipkd_sdk.training.models.student import AnyStudent

    Encode = Callable[[Sequence[str]], NDArray[np.float32]]
    Map = tuple[NDArray[np.float32], NDArray[np.float32]]
    Batch = tuple[tuple[TokenStates, TokenStates, Tensor, Tensor], Tensor, Tensor, Tensor]

logger = logging.getLogger("flipkd_sdk")

_STATES = (192, 64)
"""Numbers that a hidden state and a token embedding are reduced to for training; the head's maps read these."""
_SAMPLE = 1500
"""Texts that the reduction is found on."""
_TOLERANCE = 0.002
"""Average precision on the development pairs that the head may cost against the cosine."""
_RESTRAINT, _FIRMEST, _TIGHTENED = 0.05, 3.2, 4.0
"""First and largest weight of the squared correction on natural pairs, and the factor by which it grows after an epoch
that cost the development pairs too much."""
_SHARES = tuple(share / 10 for share in range(10, 0, -1))
"""Shares of the correction that are tried, until the development pairs are content."""
_WARM_UP = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class TrainedHead:
    """A pair head and how it came out."""

    module: PairHead
    tokens: StudentTokens
    share: float
    """Share of the learned correction that was kept."""
    counts: dict[str, int]
    """Examples by source."""
    contrast: ContrastSet
    pack: LanguagePack | None
    """Language pack of its contrast pairs."""
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
    student: AnyStudent,
    tokenizer: PreTrainedTokenizerBase,
    train: Pairs,
    dev: Pairs,
    texts: Sequence[str],
    teacher: Encode | None,
    encode: Encode,
    *,
    tokens: StudentTokens | None = None,
) -> TrainedHead:
    """Train a head for a student.

    On natural pairs the head is held to the cosine, more firmly after each epoch that leaves the development pairs'
    average precision more than `_TOLERANCE` below the cosine's. If the last one does, only a share of the correction is
    kept.

    Args:
        config: all options.
        student: trained; stays as it is.
        tokenizer: the student's.
        train: labelled pairs that the noise filter kept.
        dev: development pairs.
        texts: unlabelled texts of the domain, without the development and test pairs' ones.
        teacher: maps texts to the teacher's unit vectors; None where there is none.
        encode: maps words to unit vectors of the teacher, or else of the student.
        tokens: those of an earlier head of this student, so that no text is encoded twice.
    """
    started = time.monotonic()
    torch.manual_seed(config.seed)
    options = config.head
    chosen = _choose(train, texts, options.texts, config.seed)
    sample = [chosen[i] for i in np.random.default_rng(config.seed).permutation(len(chosen))[:_SAMPLE]]
    pack = language_pack(config.contrast, chosen)
    reader = cue_reader(pack)
    if tokens is None:
        bf16 = config.precision == "bf16"
        tokens = StudentTokens(student, tokenizer, sample, reader, context=_STATES[0], lexical=_STATES[1], bf16=bf16)
    opinion = None if teacher is None else Opinion.fitted(teacher, dev)
    per_kind = config.contrast.pairs_per_kind
    examples = build_examples(options, pack, per_kind, train, chosen, opinion, encode, seed=config.seed)
    for side in (examples.a, examples.b, dev.texts):
        tokens.add(side)
    encoded = time.monotonic() - started
    cosines = tokens.batch(dev.a, dev.b)[2].numpy()
    platt = calibration.fit(cosines, dev.label)
    floor = average_precision(cosines, dev.label) - _TOLERANCE
    batches = _batches(tokens, examples, options.batch_size, config.seed)
    head = PairHead(
        _first(tokens.context, options.context),
        _first(tokens.lexical, options.lexical),
        neurons=options.neurons,
        decisive=options.neurons,
        cosine=(platt.slope, platt.intercept),
    )
    history = _optimize(head, tokens, batches, dev, config, floor)
    share = _keep_share(head, tokens, dev, floor)
    seconds = time.monotonic() - started
    message = "pair head: %s; %.0f s, of which %.0f s encoding; %.0f%% of the correction kept"
    logger.info(message, examples.counts, seconds, encoded, 100 * share)
    return TrainedHead(head.eval(), tokens, share, examples.counts, examples.contrast, pack, history, seconds)


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
    head: PairHead, tokens: StudentTokens, batches: list[Batch], dev: Pairs, config: TrainConfig, floor: float
) -> list[dict[str, float]]:
    """Train for all epochs, with a firmer restraint after each one below the floor, and return the history."""
    options = config.head
    optimizer = torch.optim.AdamW(head.parameters(), lr=options.learning_rate, weight_decay=0.02)
    steps = len(batches) * options.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=steps + 1, pct_start=_WARM_UP
    )
    rng = np.random.default_rng(config.seed)
    history: list[dict[str, float]] = []
    restraint = _RESTRAINT
    for epoch in range(options.epochs):
        head.train()
        losses = []
        for i in rng.permutation(len(batches)):
            loss = _loss(head, batches[i], restraint)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        precision = average_precision(_logits(head, tokens, dev.a, dev.b), dev.label)
        history.append(
            {
                "epoch": epoch + 1,
                "loss": float(np.mean(losses)),
                "average_precision": precision,
                "restraint": restraint,
            }
        )
        if precision < floor:
            restraint = min(restraint * _TIGHTENED, _FIRMEST)
    return history


def _keep_share(head: PairHead, tokens: StudentTokens, dev: Pairs, floor: float) -> float:
    """Scale the correction down until the development pairs' average precision reaches the floor."""
    logits, cosines = _logits(head, tokens, dev.a, dev.b), tokens.batch(dev.a, dev.b)[2].numpy()
    base = head.cosine.item() * cosines + head.intercept.item()
    for share in _SHARES:
        if average_precision(base + share * (logits - base), dev.label) >= floor:
            break
    else:
        logger.warning("the pair head costs more average precision on the development pairs than it may")
    with torch.no_grad():
        head.decide_2.weight.mul_(share)
        head.decide_2.bias.mul_(share)
    return share


def _loss(head: PairHead, batch: Batch, restraint: float) -> Tensor:
    (a, b, cosines, cues), target, weight, natural = batch
    correction = head.correction(a, b, cosines, cues)
    logits = correction + head.cosine * cosines + head.intercept
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (weight * (loss + restraint * natural * correction.square())).mean()


def _batches(tokens: StudentTokens, examples: Examples, size: int, seed: int) -> list[Batch]:
    """Return batches of pairs of similar length; they stay the same over the epochs, and their order changes."""
    longest = np.maximum(tokens.lengths(examples.a), tokens.lengths(examples.b))
    order = np.argsort(longest + np.random.default_rng(seed).normal(0, 1.5, len(longest)), kind="stable")
    batches = []
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        inputs = tokens.batch([examples.a[i] for i in rows], [examples.b[i] for i in rows])
        parts = (examples.target, examples.weight, examples.natural.astype(np.float32))
        target, weight, natural = (torch.from_numpy(part[rows]) for part in parts)
        batches.append((inputs, target, weight, natural))
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
