"""The matcher directory's ``manifest.json``: what is in the directory, where it came from and what was measured.

This module alone writes and reads it. Reading trusts nothing: a missing or newer format version, an unknown or missing
key, a number that is not finite, a file name that leaves the directory, a symlink, and a size or SHA-256 that differs
are each rejected with an error that names them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flipkd_sdk.calibration import Calibration  # noqa: TC001 - `_decode` reads the field types at run time
from flipkd_sdk.errors import MatcherDirectoryError, UnsupportedFormatError

FORMAT_VERSION = 1
"""Version of the directory format that this release writes; every older one is read."""

SCORING_VERSION = 1
"""Changes whenever a release would score the same pair with the same matcher differently."""

MANIFEST_FILE = "manifest.json"

_MAX_MANIFEST_BYTES = 1 << 20
_MAX_FILE_NAME_BYTES = 255


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A model that a matcher was made from."""

    source: str
    revision: str
    licence: str


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """How the student is read as an encoder: which adapter's A, and how token vectors become one text vector."""

    layer: int
    """Index of the decoder block that holds the encoder site; the blocks below it are in the graph."""
    module: str
    """Name of the linear layer inside the block, such as ``q_proj``."""
    pooling: str
    """``mean`` or ``last``."""
    attention: str
    """``causal`` or ``bidirectional``."""
    dimension: int
    """Length of the text vectors: the rank of the site's adapter."""


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """The tokenizer file and how a text becomes token ids."""

    file: str
    sha256: str
    bytes: int
    max_length: int
    """Most tokens of a text that are read; the rest is cut off at the end."""
    empty_token_id: int
    """The single token that stands for a text without any token of its own."""
    special_tokens: tuple[str, ...]
    """Tokens that the tokenizer itself adds to every text; most decoder-only LLMs add none."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a variant is from the fp32 variant, over the development pairs."""

    spearman: float
    """Rank correlation of the pairs' cosines with fp32."""
    max_cosine_change: float
    """Largest absolute change of a pair's cosine against fp32."""
    average_precision_change: float
    f1_change: float
    alone_vs_batched: float
    """Largest change of a pair's score between being scored alone and in a batch."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One model file."""

    file: str
    sha256: str
    bytes: int
    providers: tuple[str, ...]
    """onnxruntime execution providers that it was verified on."""
    instruction_sets: tuple[str, ...]
    """CPU instruction sets of the machine that it was verified on."""
    drift: Drift


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a reader needs to know about a matcher directory."""

    sdk_version: str
    created: str
    """UTC time in ISO 8601."""
    student: ModelReference
    teacher: ModelReference
    encoder: EncoderSpec
    tokenizer: TokenizerSpec
    variants: Mapping[str, Variant]
    """By precision: ``fp32``, ``int8``, …"""
    calibration: Calibration
    metrics: Mapping[str, Mapping[str, float]]
    """By split and system, such as ``"test/int8"``: the measures of `flipkd_sdk.metrics.summary`."""
    format_version: int = FORMAT_VERSION
    scoring_version: int = SCORING_VERSION

    def variant(self, precision: str) -> Variant:
        """The variant of a precision.

        Raises:
            MatcherDirectoryError: there is none; the message lists those there are.
        """
        try:
            return self.variants[precision]
        except KeyError:
            there = ", ".join(sorted(self.variants))
            raise MatcherDirectoryError(f"this matcher has no {precision!r} variant; it has: {there}") from None

    def to_json(self) -> str:
        """The manifest as stable, indented JSON.

        Raises:
            ValueError: a number is not finite.
        """
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def read_manifest(directory: str | Path) -> Manifest:
    """Read and check ``manifest.json``; the files that it names are not opened (see `checked_file`).

    Raises:
        MatcherDirectoryError: the directory or the manifest is missing or malformed.
        UnsupportedFormatError: the format version is missing or newer than this release.
    """
    path = Path(directory) / MANIFEST_FILE
    if not Path(directory).is_dir():
        raise MatcherDirectoryError(
            f"{directory}: no such directory; expected a matcher directory made by 'flipkd export'"
        )
    if path.is_symlink():
        raise MatcherDirectoryError(f"{path}: a symlink; a matcher directory holds plain files only")
    if not path.is_file():
        raise MatcherDirectoryError(f"{path}: missing, so this is not a matcher directory made by 'flipkd export'")
    if path.stat().st_size > _MAX_MANIFEST_BYTES:
        raise MatcherDirectoryError(f"{path}: larger than {_MAX_MANIFEST_BYTES} bytes, so it is not a manifest")
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise MatcherDirectoryError(f"{path}: not valid JSON ({error}); export the matcher again") from error
    try:
        return _parse(content)
    except MatcherDirectoryError as error:
        raise type(error)(f"{path}: {error}") from None


def checked_file(directory: str | Path, entry: TokenizerSpec | Variant) -> Path:
    """The path of a file that the manifest names, after its size and SHA-256 were compared.

    Raises:
        MatcherDirectoryError: the file is missing, not a plain file of the directory, or not the one that was exported.
    """
    path = Path(directory) / entry.file
    if path.is_symlink():
        raise MatcherDirectoryError(f"{path}: a symlink; a matcher directory holds plain files only")
    if not path.is_file():
        raise MatcherDirectoryError(f"{path}: named in the manifest but missing; export the matcher again")
    size = path.stat().st_size
    if size != entry.bytes:
        raise MatcherDirectoryError(f"{path}: {size} bytes instead of {entry.bytes}; the file was changed or cut short")
    if sha256_of(path) != entry.sha256:
        raise MatcherDirectoryError(f"{path}: its SHA-256 differs from the manifest's; the file was changed")
    return path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return content


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")


def _parse(content: object) -> Manifest:
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UnsupportedFormatError("no format version; not a manifest of flipkd_sdk")
    if version > FORMAT_VERSION:
        raise UnsupportedFormatError(
            f"format version {version} is newer than this release reads ({FORMAT_VERSION}); upgrade flipkd-sdk"
        )
    manifest: Manifest = _decode(Manifest, content, "manifest")
    entries: list[TokenizerSpec | Variant] = [manifest.tokenizer, *manifest.variants.values()]
    for entry in entries:
        _check_file_name(entry.file)
    if not manifest.variants:
        raise MatcherDirectoryError("manifest.variants: empty")
    if not 0.0 <= manifest.calibration.threshold <= 1.0:
        raise MatcherDirectoryError("manifest.calibration.threshold: not in [0, 1]")
    if manifest.calibration.slope <= 0:
        raise MatcherDirectoryError("manifest.calibration.slope: not positive")
    if manifest.tokenizer.max_length < 1 or manifest.encoder.dimension < 1:
        raise MatcherDirectoryError("manifest: max_length and dimension must be positive")
    return manifest


def _check_file_name(name: str) -> None:
    plain = name == PurePosixPath(name).name and name not in ("", ".", "..") and name.isprintable()
    if not plain or "\\" in name or ":" in name or len(name.encode()) > _MAX_FILE_NAME_BYTES:
        raise MatcherDirectoryError(
            f"{name[:99]!r} is not a plain file name; a manifest names files of its own directory only"
        )


def _decode(kind: typing.Any, value: object, where: str) -> typing.Any:  # noqa: ANN401 - the kind decides
    """Build a value of a declared type from parsed JSON, exactly: no coercion, no unknown and no missing key."""
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(typing.cast("type", kind), _mapping(value, where), where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(value, list):
            raise MatcherDirectoryError(f"{where}: not a list")
        return tuple(_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        items = _mapping(value, where).items()
        return {key: _decode(arguments[1], item, f"{where}[{key!r}]") for key, item in items}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        # Beyond float's range Python raises, where JSON's own 1e999 becomes an infinity.
        value = float(value) if abs(value) < 1 << 1023 else math.inf
    if type(value) is not kind:
        raise MatcherDirectoryError(f"{where}: expected {kind.__name__}, found {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise MatcherDirectoryError(f"{where}: not a finite number")
    return value


def _decode_dataclass(kind: type, content: Mapping[str, object], where: str) -> object:
    hints = typing.get_type_hints(kind)
    if unknown := sorted(content.keys() - hints.keys()):
        raise MatcherDirectoryError(f"{where}: unknown key {unknown[0]!r}")
    if missing := sorted(hints.keys() - content.keys()):
        raise MatcherDirectoryError(f"{where}: key {missing[0]!r} is missing")
    return kind(**{name: _decode(hint, content[name], f"{where}.{name}") for name, hint in hints.items()})


def _mapping(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise MatcherDirectoryError(f"{where}: not an object")
    return value
