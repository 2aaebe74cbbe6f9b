"""Verification of a matcher directory on this machine against its export; the measurements of ``flipkd verify``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.artifact.limits import (
    FIGURES,
    HEAD_CHANGE,
    PAIRS_ALONE,
    REFERENCE_DISTANCE,
    SPEARMAN_LOSS,
    score_change,
)
from flipkd_sdk.artifact.manifest import Drift, checked_file, read_manifest
from flipkd_sdk.errors import ConfigError
from flipkd_sdk.evaluation import metrics
from flipkd_sdk.evaluation.cosines import pair_cosines
from flipkd_sdk.runtimes.encoding.encoder import Encoded
from flipkd_sdk.runtimes.encoding.inputs import distinct_of_pairs
from flipkd_sdk.runtimes.load import LoadOptions, OpenMatcher, open_matcher
from flipkd_sdk.runtimes.onnx.threads import available_threads
from flipkd_sdk.runtimes.reference_vectors import (
    as_tokens,
    head_numbers,
    load_self_test,
    made_up_sample,
    median_distance,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.artifact.manifest import Manifest
    from flipkd_sdk.artifact.reference_vectors import SelfTest
    from flipkd_sdk.evaluation.calibration import Calibration
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.runtimes.encoding.tokenizer import TokenIds

_ROWS = 3
"""Texts of a run in the pass with small batches, which splits groups of equal length at other places."""


@dataclass(frozen=True, slots=True)
class Check:
    """One figure and its limits."""

    variant: str
    what: str
    measured: float
    exported: float | None = None
    """The figure on the exporting machine, if known."""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def passed(self) -> bool:
        """Return True if the figure is within its limits; one without limits is for information."""
        # Written so that NaN fails.
        below = self.at_most is None or self.measured <= self.at_most
        above = self.at_least is None or self.measured >= self.at_least
        return below and above


@dataclass(frozen=True, slots=True)
class Verification:
    """Result of a verification."""

    files: tuple[str, ...]
    """Files whose size and SHA-256 equal the manifest's."""
    devices: Mapping[str, str]
    """Device by variant."""
    has_self_test: bool
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """Return the checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """Texts as token ids, and the pairs to score."""

    name: str
    tokens: Sequence[TokenIds]
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    texts: Sequence[str]
    """The texts as the pair head's cues read them."""

    def cosines(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return pair_cosines(vectors, self.a, self.b)

    def first(self, pairs: int) -> _Sample:
        """Return the first pairs and their texts."""
        kept, indices = np.unique(np.concatenate([self.a[:pairs], self.b[:pairs]]), return_inverse=True)
        a, b = indices.reshape(2, -1)
        return _Sample(self.name, [self.tokens[i] for i in kept], a, b, [self.texts[i] for i in kept])

    def values(self, opened: OpenMatcher, encoded: Encoded) -> NDArray[np.float32]:
        """Return what scores are made of: the pair head's numbers, or without one the cosines."""
        cosines = self.cosines(encoded.vectors)
        if opened.head is None or encoded.tokens is None:
            return cosines
        return opened.head.logits(self.texts, encoded.tokens, self.a, self.b, cosines)


def verify(
    directory: Path,
    options: LoadOptions,
    *,
    pairs: Pairs | None = None,
    split: str | None = None,
) -> Verification:
    """Check the files, run the self-test and measure every variant, or one.

    Args:
        directory: the matcher directory.
        options: the options of `Matcher.load`; precision ``"auto"`` selects all variants.
        pairs: labelled pairs to measure on as well.
        split: name of the pairs' split in the training run, ``"dev"`` or ``"test"``: compare with its figures in the
            manifest.

    Raises:
        MatcherDirectoryError: a file is missing, changed, foreign or malformed, or it has no such variant.
        ExecutionError: onnxruntime is missing, or it would run on another device.
        ConfigError: the manifest has no figures of that split.
    """
    manifest = read_manifest(directory)
    files = tuple(checked_file(directory, entry).name for entry in manifest.files)
    known = sorted({name.partition("/")[0] for name in manifest.metrics})
    if split is not None and split not in known:
        raise ConfigError(f"{directory}: has no figures of a split {split!r}; it has: {', '.join(known) or 'none'}")
    if options.precision == "auto":
        chosen = sorted(manifest.variants, key=lambda name: name != "fp32")
    else:
        chosen = [options.precision]
    self_test = load_self_test(directory, manifest)
    texts = self_test.token_ids if self_test else made_up_sample(directory, manifest)
    a, b = np.array(list(combinations(range(len(texts)), 2))).T
    samples = [_Sample("sample", as_tokens(texts), a, b, [" ".join(map(str, ids)) for ids in texts])]
    checks: list[Check] = []
    cosines: dict[str, list[NDArray[np.float32]]] = {}
    devices = {}
    for precision in chosen:
        opened, others = _open_twice(directory, replace(options, precision=precision))
        devices[precision] = opened.device
        if pairs is not None and len(samples) == 1:
            samples.append(_sample_of(pairs, opened))
        if self_test is not None:
            distance = median_distance(opened.encoder, self_test, precision)
            checks.append(Check(precision, "self-test distance", distance, 0.0, at_most=REFERENCE_DISTANCE))
            checks += _head_change(opened, self_test, precision)
        for sample in samples:
            checks += _invariance(sample.first(PAIRS_ALONE), opened, others)
        cosines[precision] = [sample.cosines(opened.encoder.encode_tokens(sample.tokens)) for sample in samples]
        if pairs is not None:
            checks += _figures(manifest.calibration, manifest, precision, cosines[precision][1], pairs, split)
            checks += _figures_with_head(opened, samples[1], pairs, split)
    for precision in chosen[1:]:
        compared = precision, chosen[0]
        for i, sample in enumerate(samples):
            exported = _exported_drift(manifest, self_test, sample, compared)
            checks += _drift(sample.name, compared, cosines[precision][i], cosines[chosen[0]][i], exported)
    return Verification(files, devices, self_test is not None, tuple(checks))


def measured_drift(
    cosine: NDArray[np.float32],
    reference: NDArray[np.float32],
    label: NDArray[np.integer],
    calibration: Calibration,
    alone_vs_batched: float,
) -> Drift:
    """Return the drift of a variant's cosines of labelled pairs from the reference's; all of shape (n,)."""

    def f1(values: NDArray[np.float32]) -> float:
        return metrics.at_threshold(calibration.probability(values), label, calibration.threshold)["f1"]

    return Drift(
        **metrics.agreement(cosine, reference, label),
        f1_change=f1(cosine) - f1(reference),
        alone_vs_batched=alone_vs_batched,
    )


def _sample_of(pairs: Pairs, opened: OpenMatcher) -> _Sample:
    distinct = distinct_of_pairs(zip(pairs.a, pairs.b, strict=True))
    tokens = opened.encoder.tokenizer.encode(distinct.texts)
    return _Sample("pairs", tokens, distinct.index[0::2], distinct.index[1::2], distinct.texts)


def _open_twice(directory: Path, options: LoadOptions) -> tuple[OpenMatcher, OpenMatcher]:
    """Open a variant with the number of threads in the options and with another one, without the self-test."""
    other = 1 if (options.threads or available_threads()) > 1 else 2
    return (
        open_matcher(directory, options, self_test=False),
        open_matcher(directory, replace(options, threads=other), self_test=False),
    )


def _invariance(sample: _Sample, opened: OpenMatcher, others: OpenMatcher) -> Iterator[Check]:
    """Measure the change of scores with the batch, its order and the number of threads."""
    encoder, tokens = opened.encoder, sample.tokens
    head = opened.head is not None
    alone = _joined([encoder.encode_with_tokens([text], with_tokens=head) for text in tokens])
    backwards = encoder.encode_with_tokens(tokens[::-1], with_tokens=head)
    passes = {
        "batched": encoder.encode_with_tokens(tokens, with_tokens=head),
        "in small batches": encoder.encode_with_tokens(tokens, with_tokens=head, max_rows=_ROWS),
        "reversed": Encoded(backwards.vectors[::-1], 0, backwards.tokens and backwards.tokens[::-1]),
        "with other threads": others.encoder.encode_with_tokens(tokens, with_tokens=head),
    }
    if opened.device != "cpu":
        del passes["with other threads"]

    def scores_of(encoded: Encoded, sample: _Sample = sample) -> NDArray[np.float32]:
        return opened.manifest.pair_calibration.probability(sample.values(opened, encoded))

    scores = scores_of(alone)
    # A wider limit that the user set at export holds here too.
    limit = max(score_change(opened.device), 2 * opened.manifest.variant(opened.precision).drift.alone_vs_batched)
    for name, encoded in passes.items():
        change = float(np.abs(scores_of(encoded) - scores).max())
        yield Check(opened.precision, f"{sample.name}: alone / {name}", change, at_most=limit)
    if head:
        swapped = replace(sample, a=sample.b, b=sample.a)
        change = float(np.abs(scores_of(alone, swapped) - scores).max())
        yield Check(opened.precision, f"{sample.name}: texts swapped", change, at_most=limit)


def _joined(parts: Sequence[Encoded]) -> Encoded:
    """Join results of several runs."""
    tokens = [own for part in parts for own in part.tokens or ()]
    return Encoded(np.concatenate([part.vectors for part in parts]), 0, tokens or None)


def _head_change(opened: OpenMatcher, self_test: SelfTest, precision: str) -> Iterator[Check]:
    """Compare the pair head's scores of the sample with those at export."""
    exported = self_test.numbers.get(precision)
    if opened.head is None or exported is None:
        return
    encoded = opened.encoder.encode_with_tokens(as_tokens(self_test.token_ids), with_tokens=True)
    probability = opened.manifest.pair_calibration.probability
    here = probability(head_numbers(opened.head, self_test.token_ids, encoded))
    change = float(np.median(np.abs(here - probability(exported))))
    yield Check(precision, "self-test scores with head", change, 0.0, at_most=HEAD_CHANGE)


def _figures(
    calibration: Calibration,
    manifest: Manifest,
    precision: str,
    cosine: NDArray[np.float32],
    pairs: Pairs,
    split: str | None,
) -> Iterator[Check]:
    """Measure the quality on labelled pairs and compare it with the split's figures in the manifest, if it has any."""
    values = metrics.summary(calibration.probability(cosine), pairs.label, calibration.threshold)
    exported = manifest.metrics.get(f"{split}/{precision}", {})
    for name, most in FIGURES.items():
        there = exported.get(name)
        what = f"pairs: {name.replace('_', ' ')}"
        if there is None:
            yield Check(precision, what, values[name])
        else:
            yield Check(precision, what, values[name], there, at_most=there + most, at_least=there - most)


def _figures_with_head(opened: OpenMatcher, sample: _Sample, pairs: Pairs, split: str | None) -> Iterator[Check]:
    if opened.head is not None:
        values = sample.values(opened, opened.encoder.encode_with_tokens(sample.tokens, with_tokens=True))
        name, calibration = f"{opened.precision} with head", opened.manifest.pair_calibration
        yield from _figures(calibration, opened.manifest, name, values, pairs, split)


def _exported_drift(
    manifest: Manifest, self_test: SelfTest | None, sample: _Sample, precisions: tuple[str, str]
) -> tuple[float, float] | None:
    """Return Spearman and the largest cosine change between two variants at export, on the sample or on dev pairs."""
    precision, against = precisions
    if self_test is not None and sample.name == "sample":
        cosine, reference = (sample.cosines(self_test.vectors[name]) for name in precisions)
        return metrics.spearman(cosine, reference), float(np.abs(cosine - reference).max())
    drift = manifest.variant(precision).drift
    return (drift.spearman, drift.max_cosine_change) if against == "fp32" else None


def _drift(
    name: str,
    precisions: tuple[str, str],
    cosine: NDArray[np.float32],
    reference: NDArray[np.float32],
    exported: tuple[float, float] | None,
) -> Iterator[Check]:
    """Measure the drift of a variant from the reference variant here and compare it with the drift at export."""
    precision, against = precisions
    spearman, change = exported or (None, None)
    least = None if spearman is None else spearman - SPEARMAN_LOSS
    yield Check(
        precision, f"{name}: Spearman with {against}", metrics.spearman(cosine, reference), spearman, at_least=least
    )
    moved = float(np.abs(cosine - reference).max())
    yield Check(precision, f"{name}: max |Δcosine| from {against}", moved, change)
