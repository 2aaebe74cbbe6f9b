"""The matcher directory's ``manifest.json``: its files, their origin and their measurements.

Only this module writes and reads it. Reading refuses a missing or newer format version, an unknown or missing key, a
number that is not finite, a file name that leaves the directory, a symlink, and a size or SHA-256 that differs, each
with an error that names it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping  # noqa: TC003 - `decode` reads the field types at run time
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from flipkd_sdk.artifact import strict_json
from flipkd_sdk.errors import MatcherDirectoryError, UnsupportedFormatError
from flipkd_sdk.evaluation.calibration import Calibration  # noqa: TC001 - `decode` reads the field types at run time

FORMAT_VERSION = 3
"""Version of the directory format that this release writes; it reads every older one.

Version 2 added the self-test and the trimmed vocabulary, version 3 the pair head, the search threshold, the
familiarity sketch and the profile.
"""

SCORING_VERSION = 1
"""Version of the scores: it increases with every release that scores a pair by the same matcher differently."""

MANIFEST_FILE = "manifest.json"

WHOLE_ENCODER = "last_hidden_state"
"""`EncoderSpec.module` of an encoder that was exported whole, without a student."""

TOKEN_TABLE = "embedding"  # noqa: S105
"""`EncoderSpec.module` of a static student, which has a vector for each token and no block."""

_MAX_MANIFEST_BYTES = 1 << 20
_MAX_FILE_NAME_BYTES = 255
_SINCE = {"self_test": 2, "trimmed_vocabulary": 2, "head": 3, "familiarity": 3, "profile": 3}
"""Format version that added a key of the manifest; older manifests lack the key, and its value is None."""
_SEARCH_SINCE = 3
"""Format version that added the search threshold to calibrations."""


class NamedFile(Protocol):
    """A file of the directory in the manifest."""

    @property
    def file(self) -> str:
        """Return its name."""

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of its content, in hexadecimal."""

    @property
    def bytes(self) -> int:
        """Return its size."""


@dataclass(frozen=True, slots=True)
class ModelReference:
    """Origin of a model."""

    source: str
    revision: str
    licence: str


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """The encoder site in the student, and the pooling of token vectors."""

    layer: int
    """Index of the decoder block that holds the encoder site; the blocks below it are in the graph. The number of
    blocks of an encoder that was exported whole."""
    module: str
    """Name of the linear layer inside the block, such as ``q_proj``, or `WHOLE_ENCODER`, or `TOKEN_TABLE`."""
    pooling: str
    """``mean`` or ``last``, or ``cls`` for an encoder that was exported whole."""
    attention: str
    """``causal`` or ``bidirectional``."""
    dimension: int
    """Length of the text vectors; for a student the rank of the site's adapter."""


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """The tokenizer file and its use."""

    file: str
    sha256: str
    bytes: int
    max_length: int
    """Most tokens of a text; the rest is truncated."""
    empty_token_id: int
    """Token of a text that has no token of its own."""
    special_tokens: tuple[str, ...]
    """Tokens that the tokenizer adds to every text; most decoder-only LLMs add none."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Drift of a variant from the fp32 variant on the development pairs."""

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
    """onnxruntime execution providers of its verification."""
    instruction_sets: tuple[str, ...]
    """CPU instruction sets of the machine of its verification."""
    drift: Drift


@dataclass(frozen=True, slots=True)
class SelfTestFile:
    """The file of a random sample and its vectors, see `flipkd_sdk.artifact.reference_vectors`."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """The pair head: the file of its weights, see `flipkd_sdk.pair_head`, and what its numbers mean."""

    file: str
    sha256: str
    bytes: int
    dimension: int
    """Length of the token vectors, the graphs' second output."""
    calibration: Calibration
    """From the head's numbers to match probabilities, with the threshold of pairs."""


@dataclass(frozen=True, slots=True)
class FamiliarityFile:
    """The sketch of the training texts, see `flipkd_sdk.artifact.familiarity`."""

    file: str
    sha256: str
    bytes: int
    texts: int
    """Number of training texts that it was made of."""
    held_out: int
    """Number of development texts whose similarities are its quantiles."""


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """The profile of the domain, see `flipkd_sdk.artifact.profile`."""

    file: str
    sha256: str
    bytes: int
    pairs: int
    """Number of pairs that its scores were measured on."""
    texts: int
    """Number of texts that the rest was measured on."""


@dataclass(frozen=True, slots=True)
class TrimmedVocabulary:
    """Size of a trimmed vocabulary, and its effect on unseen texts.

    Measured in torch against the whole vocabulary, on the development texts, for which no token was kept.
    """

    tokens: int
    """Tokens kept: rows of the embedding."""
    base_tokens: int
    """Rows of the base model's embedding."""
    width: int
    """Numbers in a row."""
    unchanged: float
    """Share of the development texts' tokens that are the same, in [0, 1]."""
    growth: float
    """Number of the development texts' tokens, relative to the number with the whole vocabulary."""
    spearman: float
    """Rank correlation of the development pairs' cosines with those of the whole vocabulary."""
    max_cosine_change: float
    """Largest absolute change of a development pair's cosine."""
    average_precision_change: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """Content of ``manifest.json``."""

    sdk_version: str
    created: str
    """UTC time in ISO 8601."""
    student: ModelReference
    teacher: ModelReference
    encoder: EncoderSpec
    tokenizer: TokenizerSpec
    variants: Mapping[str, Variant]
    """By precision: ``fp32``, ``fp16``, ``int8``, ``int4``."""
    calibration: Calibration
    metrics: Mapping[str, Mapping[str, float]]
    """By split and system, such as ``"test/int8"``: the measures of `flipkd_sdk.evaluation.metrics.summary`."""
    self_test: SelfTestFile | None = None
    """None in directories of format version 1, and while an export is not finished."""
    trimmed_vocabulary: TrimmedVocabulary | None = None
    """None where the vocabulary is the base model's, and in directories of format version 1."""
    head: HeadSpec | None = None
    """None where scores are those of the cosine, and in directories of format versions 1 and 2."""
    familiarity: FamiliarityFile | None = field(default=None, metadata={"optional": True})
    """None in directories of format versions 1 and 2, and in the first ones of version 3."""
    profile: ProfileFile | None = field(default=None, metadata={"optional": True})
    """None in the same directories as the familiarity sketch, and in some later ones."""
    format_version: int = FORMAT_VERSION
    scoring_version: int = SCORING_VERSION

    @property
    def pair_calibration(self) -> Calibration:
        """Return the calibration of `Matcher.score`: the pair head's, or without one the cosine's."""
        return self.calibration if self.head is None else self.head.calibration

    def variant(self, precision: str) -> Variant:
        """Return the variant of a precision.

        Raises:
            MatcherDirectoryError: there is none; the message lists the variants.
        """
        try:
            return self.variants[precision]
        except KeyError:
            variants = ", ".join(sorted(self.variants))
            raise MatcherDirectoryError(f"this matcher has no {precision!r} variant; it has: {variants}") from None

    def to_json(self) -> str:
        """Return the manifest as indented JSON in a stable order.

        Raises:
            ValueError: a number is not finite.
        """
        content = dataclasses.asdict(self)
        for key, since in _SINCE.items():
            if self.format_version < since:
                del content[key]
        if self.format_version < _SEARCH_SINCE:
            del content["calibration"]["search"]
        return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    @property
    def files(self) -> tuple[NamedFile, ...]:
        """Return the files of the directory but ``manifest.json`` and the model card."""
        optional = (entry for entry in (self.self_test, self.head, self.familiarity, self.profile) if entry is not None)
        return (self.tokenizer, *self.variants.values(), *optional)


def read_manifest(directory: str | Path) -> Manifest:
    """Read and check ``manifest.json``, without opening the files that it names (see `checked_file`).

    Raises:
        MatcherDirectoryError: the directory or the manifest is missing or malformed.
        UnsupportedFormatError: the format version is missing, or this release does not read it or its scoring version.
    """
    path = Path(directory) / MANIFEST_FILE
    if not Path(directory).is_dir():
        raise MatcherDirectoryError(
            f"{directory}: no such directory; expected a matcher directory made by 'flipkd export'"
        )
    if path.is_symlink():
        raise MatcherDirectoryError(f"{path}: a symlink; a matcher directory contains plain files only")
    if not path.is_file():
        raise MatcherDirectoryError(f"{path}: missing, so this is not a matcher directory made by 'flipkd export'")
    if path.stat().st_size > _MAX_MANIFEST_BYTES:
        raise MatcherDirectoryError(f"{path}: larger than {_MAX_MANIFEST_BYTES} bytes, so it is not a manifest")
    try:
        content = strict_json.parse(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise MatcherDirectoryError(f"{path}: not valid JSON ({error}); export the matcher again") from error
    try:
        return _parse(content)
    except MatcherDirectoryError as error:
        raise type(error)(f"{path}: {error}") from None


def checked_file(directory: str | Path, entry: NamedFile) -> Path:
    """Compare a file's size and SHA-256 with the manifest and return its path.

    Raises:
        MatcherDirectoryError: the file is missing, not a plain file of the directory, or not the one that was exported.
    """
    path = Path(directory) / entry.file
    if path.is_symlink():
        raise MatcherDirectoryError(f"{path}: a symlink; a matcher directory contains plain files only")
    if not path.is_file():
        raise MatcherDirectoryError(f"{path}: named in the manifest but missing; export the matcher again")
    size = path.stat().st_size
    if size != entry.bytes:
        raise MatcherDirectoryError(f"{path}: {size} bytes instead of {entry.bytes}; the file was changed or cut short")
    if sha256_of(path) != entry.sha256:
        raise MatcherDirectoryError(f"{path}: its SHA-256 differs from the manifest's; the file was changed")
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse(content: object) -> Manifest:
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(content, dict) or type(version) is not int or version < 1:
        raise UnsupportedFormatError("no format version; not a manifest of flipkd_sdk")
    if version > FORMAT_VERSION:
        raise UnsupportedFormatError(
            f"format version {version} is newer than this release reads ({FORMAT_VERSION}); upgrade flipkd-sdk"
        )
    scoring = content.get("scoring_version")
    if type(scoring) is not int or not 1 <= scoring <= SCORING_VERSION:
        raise UnsupportedFormatError(
            f"scoring version {ascii(scoring)[:60]} is not one that this release scores by (1 to {SCORING_VERSION}); "
            "upgrade flipkd-sdk, or export the matcher again"
        )
    manifest: Manifest = strict_json.decode(Manifest, _with_later_keys(content, version), "manifest")
    for entry in manifest.files:
        _check_file_name(entry.file)
    if not manifest.variants:
        raise MatcherDirectoryError("manifest.variants: empty")
    _check_calibration(manifest.calibration, "manifest.calibration")
    if manifest.head is not None:
        _check_calibration(manifest.head.calibration, "manifest.head.calibration")
        if manifest.head.dimension < 1:
            raise MatcherDirectoryError("manifest.head.dimension: not positive")
    if manifest.tokenizer.max_length < 1 or manifest.encoder.dimension < 1:
        raise MatcherDirectoryError("manifest: max_length and dimension must be positive")
    return manifest


def _with_later_keys(content: dict[str, object], version: int) -> dict[str, object]:
    """Return the manifest of an older format version with the keys added since, which it may not contain."""
    later = {key: None for key, since in _SINCE.items() if version < since}
    if known := sorted(later.keys() & content.keys()):
        raise MatcherDirectoryError(f"manifest: unknown key {known[0]!r}")
    calibration = content.get("calibration")
    if version < _SEARCH_SINCE and isinstance(calibration, dict) and "search" in calibration:
        raise MatcherDirectoryError("manifest.calibration: unknown key 'search'")
    return content | later


def _check_calibration(calibration: Calibration, where: str) -> None:
    if not 0.0 <= calibration.threshold <= 1.0:
        raise MatcherDirectoryError(f"{where}.threshold: not in [0, 1]")
    if calibration.slope <= 0:
        raise MatcherDirectoryError(f"{where}.slope: not positive")
    search = calibration.search
    if search is None:
        return
    if not 0.0 <= search.threshold <= 1.0 or not 0.0 < search.precision <= 1.0:
        raise MatcherDirectoryError(f"{where}.search: threshold or precision not in [0, 1]")
    if not 0 <= search.answered <= search.searches:
        raise MatcherDirectoryError(f"{where}.search: answered is not between 0 and searches")


def _check_file_name(name: str) -> None:
    plain = name == PurePosixPath(name).name and name not in ("", ".", "..") and name.isprintable()
    if not plain or "\\" in name or ":" in name or len(name.encode()) > _MAX_FILE_NAME_BYTES:
        raise MatcherDirectoryError(
            f"{name[:99]!r} is not a plain file name; a manifest names files of its own directory only"
        )
