"""Writing a matcher directory: in a working directory beside it, which takes its name when all is proved."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flipkd_sdk import __version__
from flipkd_sdk.artifact.manifest import MANIFEST_FILE, EncoderSpec, Manifest, TokenizerSpec, read_manifest, sha256_of
from flipkd_sdk.errors import MatcherDirectoryError, OutputExistsError
from flipkd_sdk.exporters.model_card import model_card
from flipkd_sdk.training.models.student import empty_token_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.training.run_directory import FinishedRun

CARD_FILE = "README.md"


@contextlib.contextmanager
def publishing(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """A working directory that becomes ``out`` when the block ends well, and vanishes when it does not.

    Args:
        out: the matcher directory to make; a new or an empty directory.
        overwrite: replace a matcher directory that is there, at the very end.

    Raises:
        OutputExistsError: something is at ``out`` that may not, or must not, be replaced.
        OSError: ``out`` cannot be written; the error names it instead of the working directory.
    """
    _check_output(out, overwrite=overwrite)
    target = out.absolute()
    # Beside the target, so that a rename is enough; a parent that a failure would leave empty is made at the end.
    ground = next(parent for parent in target.parents if parent.exists())
    working = ground / f".{target.name}.{secrets.token_hex(4)}"
    try:
        working.mkdir()
        yield working
        _check_output(out, overwrite=overwrite)  # a while has passed
        target.parent.mkdir(parents=True, exist_ok=True)
        _move(working, target)
    except OSError as error:
        if error.errno is None or not str(error.filename or working).startswith(str(working)):
            raise
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(out)) from error
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _check_output(out: Path, *, overwrite: bool) -> None:
    if not os.path.lexists(out) or (out.is_dir() and not out.is_symlink() and not any(out.iterdir())):
        return
    if not overwrite:
        raise OutputExistsError(f"{out}: already there; choose another --out or pass --overwrite")
    refusal = "so --overwrite does not touch it; remove it yourself or choose another --out"
    if out.is_symlink() or not out.is_dir():
        raise OutputExistsError(f"{out}: not a directory, {refusal}")
    try:
        manifest = read_manifest(out)
    except MatcherDirectoryError as error:
        raise OutputExistsError(f"{out}: not a matcher directory ({error}), {refusal}") from None
    own = {MANIFEST_FILE, CARD_FILE, *(entry.file for entry in manifest.files)}
    if foreign := sorted(path.name for path in out.iterdir() if path.name not in own):
        raise OutputExistsError(f"{out}: holds {foreign[0]!r}, which is no part of a matcher, {refusal}")


def _move(working: Path, target: Path) -> None:
    if not target.exists():
        working.rename(target)
        return
    retired = working.with_name(f"{working.name}.old")
    target.rename(retired)
    try:
        working.rename(target)
    except OSError:
        retired.rename(target)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def describe(run: FinishedRun, tokenizer: PreTrainedTokenizerBase, dimension: int, working: Path) -> Manifest:
    """Write ``tokenizer.json`` and say all of the manifest that is known before there is a variant."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    file = working / "tokenizer.json"
    file.write_text(backend.to_str(pretty=False), encoding="utf-8")  # its own `save` raises no OSError
    student = run.config.student
    return Manifest(
        sdk_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        student=run.result.student,
        teacher=run.result.teacher,
        encoder=EncoderSpec(student.layer, student.module, student.pooling, student.attention, dimension),
        tokenizer=TokenizerSpec(
            file=file.name,
            sha256=sha256_of(file),
            bytes=file.stat().st_size,
            max_length=student.max_length,
            empty_token_id=empty_token_id(tokenizer),
            special_tokens=tuple(tokenizer.convert_ids_to_tokens(tokenizer("")["input_ids"])),
        ),
        variants={},
        calibration=run.result.calibration,
        metrics={},
    )


def write_manifest(working: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` and the model card that follows from it."""
    (working / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    (working / CARD_FILE).write_text(model_card(manifest), encoding="utf-8")
