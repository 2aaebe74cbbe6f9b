"""Writing of a matcher directory: in a working directory beside it, renamed after verification."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flipkd_sdk import __version__
from flipkd_sdk.artifact.manifest import MANIFEST_FILE, Manifest, TokenizerSpec, read_manifest, sha256_of
from flipkd_sdk.artifact.recalibration import is_earlier_manifest
from flipkd_sdk.atomic import atomic_directory, check_directory
from flipkd_sdk.errors import MatcherDirectoryError
from flipkd_sdk.exporters.model_card import model_card
from flipkd_sdk.training.tokens import empty_token_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.exporters.sources import ExportSource

CARD_FILE = "README.md"


@contextlib.contextmanager
def publishing(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a working directory that is renamed to ``out`` on success and removed on failure.

    Args:
        out: matcher directory to write; new, or an empty directory.
        overwrite: replace an existing matcher directory at the end.

    Raises:
        OutputExistsError: ``out`` exists and may not be replaced.
        OSError: ``out`` cannot be written; the error names ``out``, not the working directory.
    """
    check_directory(out, overwrite=overwrite, foreign=_foreign)
    with atomic_directory(out) as working:
        yield working
        # The export takes minutes, in which another process can write there.
        check_directory(out, overwrite=overwrite, foreign=_foreign)


def _foreign(directory: Path) -> str | None:
    if directory.is_symlink():
        return "a link"
    try:
        manifest = read_manifest(directory)
    except MatcherDirectoryError as error:
        return f"not a matcher directory ({error})"
    own = {MANIFEST_FILE, CARD_FILE, *(entry.file for entry in manifest.files)}
    names = [path.name for path in directory.iterdir() if not is_earlier_manifest(path.name)]
    foreign = sorted(set(names) - own)
    return f"contains {foreign[0]!r}, which is not part of a matcher" if foreign else None


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
