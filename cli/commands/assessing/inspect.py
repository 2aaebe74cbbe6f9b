"""``flipkd inspect``: contents of a matcher directory, with a check of its hashes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import columns, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flipkd_sdk.artifact.manifest import Manifest, ModelReference, TrimmedVocabulary
    from flipkd_sdk.evaluation.calibration import Calibration


@click.command(
    epilog=options.examples(
        "flipkd inspect faq-matcher",
        "flipkd inspect faq-matcher --json | jq .manifest.calibration.threshold",
    )
)
@options.matcher_argument
@options.json_option
def inspect(matcher: str, as_json: bool) -> None:
    """Show the contents of MATCHER, a directory made by 'flipkd export', and check its files by size and SHA-256."""
    from flipkd_sdk.artifact.manifest import checked_file, read_manifest

    manifest = read_manifest(matcher)
    verified = [checked_file(matcher, entry).name for entry in manifest.files]
    if as_json:
        content = {"directory": matcher, "verified": verified, "manifest": dataclasses.asdict(manifest)}
        print_json(content)
        return
    click.echo("\n\n".join(_sections(matcher, manifest, len(verified))))


def _sections(matcher: str, manifest: Manifest, files: int) -> Iterator[str]:
    from flipkd_sdk.artifact.manifest import TOKEN_TABLE, WHOLE_ENCODER

    encoder, tokenizer, calibration = manifest.encoder, manifest.tokenizer, manifest.pair_calibration
    site = f"block {encoder.layer}, {encoder.module}"
    site = f"{encoder.layer} blocks, exported whole" if encoder.module == WHOLE_ENCODER else site
    read = f"{site}, {encoder.attention} attention, {encoder.pooling} pooling"
    read = f"static, a table of token vectors, {encoder.pooling} pooling" if encoder.module == TOKEN_TABLE else read
    yield columns(
        [
            ("matcher", matcher),
            ("made", f"{manifest.created} by flipkd-sdk {manifest.sdk_version}"),
            ("format", f"{manifest.format_version} (scoring version {manifest.scoring_version})"),
            *((role, f"{m.source} {m.revision} ({m.licence})") for role, m in _models(manifest)),
            ("encoder", f"{read}, {encoder.dimension} dimensions"),
            ("texts", f"up to {tokenizer.max_length} tokens"),
            *_vocabulary(manifest.trimmed_vocabulary),
            ("pair head", f"{manifest.head.dimension} numbers a token" if manifest.head else "none"),
            ("threshold", f"{calibration.threshold:.4f} for {calibration.objective} on {calibration.size:,} pairs"),
            ("search", _search(calibration)),
            ("sketch", _familiarity(manifest)),
            ("profile", _profile(manifest)),
            ("files", f"{files} verified"),
            ("self-test", "run it with 'flipkd verify'" if manifest.self_test else "none; export again for one"),
        ]
    )
    head = ("variant", "MB", "Spearman", "max |Δcosine|", "ΔAP", "ΔF1", "alone/batched", "verified on")
    yield columns([head, *(_variant_row(manifest, name) for name in manifest.variants)])
    if manifest.metrics:
        yield _metrics_table(manifest.metrics)


def _search(calibration: Calibration) -> str:
    search = calibration.search
    if search is None:
        return "no threshold; fit one with 'flipkd calibrate --search'"
    share = f"{search.answered:,} of {search.searches:,} searches answered"
    return f"threshold {search.threshold:.4f} for precision>={search.precision:g}, {share}"


def _familiarity(manifest: Manifest) -> str:
    sketch = manifest.familiarity
    if sketch is None:
        return "none; export again for it"
    return f"of {sketch.texts:,} training texts, compared with {sketch.held_out:,} development texts"


def _profile(manifest: Manifest) -> str:
    profile = manifest.profile
    if profile is None:
        return "none; export again for it"
    return f"of {profile.pairs:,} pairs and {profile.texts:,} texts, for 'flipkd drift'"


def _models(manifest: Manifest) -> Iterator[tuple[str, ModelReference]]:
    yield "student", manifest.student
    yield "teacher", manifest.teacher


def _vocabulary(trimmed: TrimmedVocabulary | None) -> Iterator[tuple[str, str]]:
    if trimmed is not None:
        kept = f"{trimmed.tokens:,} of {trimmed.base_tokens:,} tokens, {trimmed.unchanged:.1%} of dev's unchanged"
        change = f"max |Δcosine| {trimmed.max_cosine_change:.1e}, ΔAP {trimmed.average_precision_change:+.4f}"
        yield "vocabulary", f"{kept}; Spearman {trimmed.spearman:.4f}, {change}"


def _variant_row(manifest: Manifest, name: str) -> tuple[str, ...]:
    variant, drift = manifest.variants[name], manifest.variants[name].drift
    return (
        name,
        f"{variant.bytes / 1e6:.1f}",
        f"{drift.spearman:.4f}",
        f"{drift.max_cosine_change:.1e}",
        f"{drift.average_precision_change:+.4f}",
        f"{drift.f1_change:+.4f}",
        f"{drift.alone_vs_batched:.1e}",
        " ".join((*variant.providers, *variant.instruction_sets)),
    )


def _metrics_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    names = list(dict.fromkeys(name for measures in metrics.values() for name in measures))
    rows = [
        (split, *(f"{measures[name]:.4f}" if name in measures else "-" for name in names))
        for split, measures in metrics.items()
    ]
    return columns([("measured on", *(name.replace("_", " ") for name in names)), *rows])
