"""Writing of a matcher directory's manifest, tokenizer and model card."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flipkd_sdk import __version__
from flipkd_sdk.artifact.manifest import MANIFEST_FILE, Manifest, TokenizerSpec, sha256_of
from flipkd_sdk.exporters.directory.model_card import model_card
from flipkd_sdk.exporters.directory.publishing import CARD_FILE
from flipkd_sdk.training.tokens import empty_token_id

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.exporters.encoders.sources import ExportSource


def describe(source: ExportSource, tokenizer: PreTrainedTokenizerBase, working: Path) -> Manifest:
    """Write ``tokenizer.json`` and return the manifest without variants.

    Args:
        source: the exported encoder.
        tokenizer: its tokenizer, or the one with a trimmed vocabulary.
        working: the working directory.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    file = working / "tokenizer.json"
    # `Tokenizer.save` does not raise OSError.
    file.write_text(backend.to_str(pretty=False), encoding="utf-8")
    return Manifest(
        sdk_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        student=source.student,
        teacher=source.teacher,
        encoder=source.spec,
        tokenizer=TokenizerSpec(
            file=file.name,
            sha256=sha256_of(file),
            bytes=file.stat().st_size,
            max_length=source.max_length,
            empty_token_id=empty_token_id(tokenizer),
            special_tokens=tuple(tokenizer.convert_ids_to_tokens(tokenizer("")["input_ids"])),
        ),
        variants={},
        calibration=source.calibration,
        metrics={},
    )


def write_manifest(working: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` and the model card."""
    (working / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    (working / CARD_FILE).write_text(model_card(manifest), encoding="utf-8")
