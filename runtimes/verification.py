"""Whether a matcher directory computes here what it computed where it was exported; what ``flipkd verify`` measures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.artifact.manifest import Drift, checked_file, read_manifest
from flipkd_sdk.errors import ConfigError
from flipkd_sdk.evaluation import metrics
from flipkd_sdk.evaluation.cosines import pair_cosines
from flipkd_sdk.runtimes.encoding.inputs import distinct_of_pairs
from flipkd_sdk.runtimes.load import LoadOptions, OpenMatcher, open_matcher
from flipkd_sdk.runtimes.onnx.threads import available_threads
from flipkd_sdk.runtimes.reference_vectors import TOLERANCE, as_tokens, load_self_test, made_up_sample, median_distance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.artifact.manifest import Manifest
    from flipkd_sdk.artifact.reference_vectors import SelfTest
    from flipkd_sdk.evaluation.calibration import Calibration
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.runtimes.encoding.tokenizer import TokenIds

INVARIANCE = {"cpu": 1e-6, "cuda": 1e-3}
"""Largest change of a score with its batch, by device. On CUDA a batch's shape chooses the kernels, so that agreement
is as good as the precision's rounding, and float16 keeps three digits."""
FIGURES = {"average_precision": 0.005, "f1": 0.01}
"""Largest change of a figure from the manifest's. F1 jumps when a single pair crosses the threshold."""
SPEARMAN_LOSS = 0.1
"""How much lower than at export a variant's rank correlation with the reference may be; unsmoothed int8 that overflows
loses more than half of it."""

_PAIRS_ALONE = 200
"""Pairs that are scored one by one as well."""
_ROWS = 3
"""Texts of a run in the pass with small batches, which cuts groups of equal length elsewhere."""


@dataclass(frozen=True, slots=True)
class Check:
    """One figure, held to its limit."""

    variant: str
    what: str
    measured: float
    exported: float | None = None
    """The figure on the exporting machine, where it is known."""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the figure keeps its limit; one without a limit is for information, and passes."""
        # Written so that NaN fails.
        below = self.at_most is None or self.measured <= self.at_most
        above = self.at_least is None or self.measured >= self.at_least
        return below and above


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found in a matcher directory."""

    files: tuple[str, ...]
    """Those whose size and SHA-256 are the manifest's."""
    devices: Mapping[str, str]
    """Where each variant ran."""
    has_self_test: bool
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """Texts as token ids, and the pairs of them that are scored."""

    name: str
    tokens: Sequence[TokenIds]
    a: NDArray[np.int64]
    b: NDArray[np.int64]

    def cosines(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return pair_cosines(vectors, self.a, self.b)

    def start(self, pairs: int) -> _Sample:
        """The first pairs, and the texts that they are made of."""
        kept, places = np.unique(np.concatenate([self.a[:pairs], self.b[:pairs]]), return_inverse=True)
        a, b = places.reshape(2, -1)
        return _Sample(self.name, [self.tokens[i] for i in kept], a, b)


def verify(
    directory: Path,
    options: LoadOptions,
    *,
    pairs: Pairs | None = None,
    split: str | None = None,
) -> Verification:
    """Check files, run the self-test and measure every variant, or one.

    Args:
        directory: the matcher directory.
        options: how to open it; precision ``"auto"`` stands for all variants.
        pairs: labelled pairs to measure on as well.
        split: the split of the training run that the pairs are, whose figures the manifest has: ``"dev"``, ``"test"``.

    Raises:
        MatcherDirectoryError: a file is missing, changed, foreign or malformed, or the precision is not there.
        ExecutionError: onnxruntime is missing, or the device asked for is not what would run.
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
    samples = [_Sample("sample", as_tokens(texts), a, b)]
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
            checks.append(Check(precision, "self-test distance", distance, 0.0, at_most=TOLERANCE))
        for sample in samples:
            checks += _invariance(sample.start(_PAIRS_ALONE), opened, others)
        cosines[precision] = [sample.cosines(opened.encoder.encode_tokens(sample.tokens)) for sample in samples]
        if pairs is not None:
            checks += _figures(manifest, precision, cosines[precision][1], pairs, split)
    for precision in chosen[1:]:
        couple = precision, chosen[0]
        for i, sample in enumerate(samples):
            exported = _exported_drift(manifest, self_test, sample, couple)
            checks += _drift(sample.name, couple, cosines[precision][i], cosines[chosen[0]][i], exported)
    return Verification(files, devices, self_test is not None, tuple(checks))


def measured_drift(
    cosine: NDArray[np.float32],
    reference: NDArray[np.float32],
    label: NDArray[np.integer],
    calibration: Calibration,
    alone_vs_batched: float,
) -> Drift:
    """How far a variant's cosines of labelled pairs are from the reference's; all of shape (n,)."""

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
    return _Sample("pairs", tokens, distinct.index[0::2], distinct.index[1::2])


def _open_twice(directory: Path, options: LoadOptions) -> tuple[OpenMatcher, OpenMatcher]:
    """A variant with the number of threads that was asked for, and with another one; refused by no self-test."""
    other = 1 if (options.threads or available_threads()) > 1 else 2
    return (
        open_matcher(directory, options, self_test=False),
        open_matcher(directory, replace(options, threads=other), self_test=False),
    )


def _invariance(sample: _Sample, opened: OpenMatcher, others: OpenMatcher) -> Iterator[Check]:
    """How far scores move with the batch, its order and the threads."""
    encoder, tokens = opened.encoder, sample.tokens
    alone = np.concatenate([encoder.encode_tokens([text]) for text in tokens])
    passes = {
        "batched": encoder.encode_tokens(tokens),
        "in small batches": encoder.encode_tokens(tokens, max_rows=_ROWS),
        "reversed": encoder.encode_tokens(tokens[::-1])[::-1],
        "with other threads": others.encoder.encode_tokens(tokens),
    }
    if opened.device != "cpu":
        del passes["with other threads"]
    probability = opened.manifest.calibration.probability
    scores = probability(sample.cosines(alone))
    limit = INVARIANCE["cpu" if opened.device == "cpu" else "cuda"]
    # What the user accepted at export is accepted here.
    limit = max(limit, 2 * opened.manifest.variant(opened.precision).drift.alone_vs_batched)
    for name, vectors in passes.items():
        change = float(np.abs(probability(sample.cosines(vectors)) - scores).max())
        yield Check(opened.precision, f"{sample.name}: alone / {name}", change, at_most=limit)


def _figures(
    manifest: Manifest, precision: str, cosine: NDArray[np.float32], pairs: Pairs, split: str | None
) -> Iterator[Check]:
    """Quality on labelled pairs, held to the manifest's figures where the pairs are a split of the training run."""
    calibration = manifest.calibration
    values = metrics.summary(calibration.probability(cosine), pairs.label, calibration.threshold)
    exported = manifest.metrics.get(f"{split}/{precision}", {})
    for name, most in FIGURES.items():
        there = exported.get(name)
        what = f"pairs: {name.replace('_', ' ')}"
        if there is None:
            yield Check(precision, what, values[name])
        else:
            yield Check(precision, what, values[name], there, at_most=there + most, at_least=there - most)


def _exported_drift(
    manifest: Manifest, self_test: SelfTest | None, sample: _Sample, precisions: tuple[str, str]
) -> tuple[float, float] | None:
    """Spearman and largest change of a cosine between two variants at export: on the sample, else on dev pairs."""
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
    """How far a variant is from the reference variant here, beside how far it was at export."""
    precision, against = precisions
    spearman, change = exported or (None, None)
    least = None if spearman is None else spearman - SPEARMAN_LOSS
    yield Check(
        precision, f"{name}: Spearman with {against}", metrics.spearman(cosine, reference), spearman, at_least=least
    )
    moved = float(np.abs(cosine - reference).max())
    yield Check(precision, f"{name}: max |Δcosine| from {against}", moved, change)
