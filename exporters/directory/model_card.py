"""Model card of a matcher directory: usage, provenance and measurements, as ``README.md``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipkd_sdk.artifact.manifest import TOKEN_TABLE, WHOLE_ENCODER

if TYPE_CHECKING:
    from flipkd_sdk.artifact.manifest import EncoderSpec, HeadSpec, Manifest, ModelReference, TrimmedVocabulary


def model_card(manifest: Manifest) -> str:
    """Return the model card in Markdown."""
    rows = [
        f"| {name} | {values['average_precision']:.4f} | {values['f1']:.4f} | {values['accuracy']:.4f} |"
        for name, values in manifest.metrics.items()
    ]
    variants = [
        f"| {precision} | `{variant.file}` | {variant.bytes / 1e6:.1f} MB | {variant.drift.spearman:.4f} "
        f"| {variant.drift.max_cosine_change:.4f} | {variant.drift.alone_vs_batched:.0e} |"
        for precision, variant in manifest.variants.items()
    ]
    encoder, tokenizer = manifest.encoder, manifest.tokenizer
    calibration = manifest.pair_calibration
    return f"""# Text matcher

Scores the probability that two texts mean the same. Made by flipkd_sdk {manifest.sdk_version} on {manifest.created}.

```python
from flipkd_sdk import Matcher

matcher = Matcher.load("path/to/this/directory")
matcher.score("first text", "second text")  # probability in [0, 1]; at least matcher.threshold is a match
```

## Provenance

| | source | revision | licence |
|---|---|---|---|
{_models(manifest)}

{_encoder(encoder)}
{encoder.pooling} pooling, {encoder.dimension} dimensions). Texts are read up to {tokenizer.max_length} tokens.
{_head(manifest.head)}{_vocabulary(manifest.trimmed_vocabulary)}
## Measurements

| split / variant | average precision | F1 | accuracy |
|---|---|---|---|
{chr(10).join(rows)}

At export, probability and threshold ({calibration.threshold:.3f}) were fitted on {calibration.size} development pairs
(objective `{calibration.objective}`). `flipkd calibrate` changes them, and `flipkd inspect` shows the present ones.

| variant | file | size | Spearman with its reference | largest change of a cosine | alone against batched |
|---|---|---|---|---|---|
{chr(10).join(variants)}

The reference of fp32 is the model in torch, with this vocabulary. The reference of every other variant is
fp32. `flipkd verify path/to/this/directory` checks that the variants compute the same on another machine.
"""


def _models(manifest: Manifest) -> str:
    if manifest.encoder.module == WHOLE_ENCODER:
        return f"| encoder | {_model(manifest.student)} |"
    return f"| student | {_model(manifest.student)} |\n| teacher | {_model(manifest.teacher)} |"


def _encoder(encoder: EncoderSpec) -> str:
    if encoder.module == WHOLE_ENCODER:
        return f"The encoder was exported whole, with {encoder.layer} blocks ({encoder.attention} attention,"
    if encoder.module == TOKEN_TABLE:
        return "The encoder is static: a table with one vector for each token (no block of the LLM,"
    site = f"`{encoder.module}` in block {encoder.layer}"
    return f"The encoder is the LoRA A matrix of {site} ({encoder.attention} attention,"


def _head(head: HeadSpec | None) -> str:
    if head is None:
        return ""
    return f"""
`score` decides on a pair by a pair head, a small function of both texts' token vectors ({head.dimension} dimensions).
Rows "with head" below measure it; the others measure the cosine, which `score_matrix` and the first pass of a search
use.
"""


def _vocabulary(trimmed: TrimmedVocabulary | None) -> str:
    if trimmed is None:
        return ""
    return f"""
The vocabulary was trimmed to the training texts: {trimmed.tokens:,} of {trimmed.base_tokens:,} tokens are left, and
other words are split into smaller pieces. On the development texts, which were left out of the trimming,
{trimmed.unchanged:.1%} of the tokens are unchanged. Against the full vocabulary Spearman is {trimmed.spearman:.4f},
cosines changed by up to {trimmed.max_cosine_change:.4f} and average precision by
{trimmed.average_precision_change:+.4f}.
"""


def _model(model: ModelReference) -> str:
    # Some packages have their full licence text in the metadata.
    licence = " ".join(model.licence.split()).replace("|", "\\|")
    return f"{model.source} | `{model.revision[:16]}` | {licence if len(licence) <= 80 else licence[:79] + '…'}"
