"""Opening of a matcher directory: options, checks, tokenizer and session."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from flipkd_sdk.errors import ConfigError, ExecutionError, MatcherDirectoryError
from flipkd_sdk.runtimes.encoding.encoder import TextEncoder
from flipkd_sdk.runtimes.encoding.tokenizer import load_tokenizer
from flipkd_sdk.runtimes.encoding.vector_cache import VectorCache
from flipkd_sdk.runtimes.onnx.session import EncoderSession, cuda_is_built_in, open_session, providers
from flipkd_sdk.runtimes.onnx.threads import available_threads
from flipkd_sdk.runtimes.options import check_integer, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from flipkd_sdk.artifact.familiarity import Sketch
    from flipkd_sdk.artifact.manifest import Manifest, NamedFile
    from flipkd_sdk.artifact.profile import Profile
    from flipkd_sdk.runtimes.encoding.tokenizer import TextTokenizer
    from flipkd_sdk.runtimes.pair_head import PairHead

ON_TRUNCATE = ("warn", "error", "ignore")
ON_BLANK = ("zero", "score")

_BATCH_TOKENS_CPU = 512
"""Larger batches are slower on a CPU, because intermediate results no longer fit its caches, and take more memory."""
_BATCH_TOKENS_CUDA = 16384
_MAX_TOKENIZER_BYTES = 1 << 26
"""Twice the largest known, Gemma's; reading it takes some ten times as much memory."""
_MAX_MODEL_BYTES = (1 << 31) - 1
"""Protobuf has no larger messages."""
_MAX_THREADS = 4096
"""More than any machine has processors; onnxruntime starts as many as it is told to."""
_PREFERRED_ON_CPU = ("int8", "fp32", "int4", "fp16")
_PREFERRED_ON_CUDA = ("fp16", "fp32", "int8", "int4")

_logger = logging.getLogger("flipkd_sdk")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Checked options of `Matcher.load`.

    Raises:
        ConfigError: an option has an invalid value.
    """

    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    max_batch_tokens: int | None = None
    gpu_mem_limit: int | None = None
    cache_size: int = 0
    on_truncate: str = "warn"
    on_blank: str = "zero"
    head: bool = True

    def __post_init__(self) -> None:
        for name in ("device", "precision", "on_truncate", "on_blank"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} must be a str; it is {shown(getattr(self, name))}")
        if not isinstance(self.head, bool):
            raise ConfigError(f"head must be True or False; it is {shown(self.head)}")
        if self.device != "auto":
            providers(self.device)
        for name in ("threads", "max_batch_tokens", "gpu_mem_limit"):
            check_integer(name, getattr(self, name), none="for the default")
        if self.threads is not None and self.threads > _MAX_THREADS:
            raise ConfigError(f"threads must be at most {_MAX_THREADS}; it is {shown(self.threads)}")
        check_integer("cache_size", self.cache_size, least=0)
        if self.on_truncate not in ON_TRUNCATE:
            raise ConfigError(f"unknown on_truncate {self.on_truncate!r}; use 'warn', 'error' or 'ignore'")
        if self.on_blank not in ON_BLANK:
            raise ConfigError(f"unknown on_blank {self.on_blank!r}; use 'zero' or 'score'")


class OpenMatcher(NamedTuple):
    """An open matcher directory."""

    manifest: Manifest
    precision: str
    encoder: TextEncoder
    head: PairHead | None

    @property
    def device(self) -> str:
        """Return the device in use."""
        return self.encoder.session.device


def open_matcher(
    directory: Path, options: LoadOptions, expected: Manifest | None = None, *, self_test: bool = True
) -> OpenMatcher:
    """Read and check the manifest, the tokenizer and one variant, and open them.

    Args:
        directory: the matcher directory.
        options: the caller's options.
        expected: the manifest at the first opening, if the matcher is opened again in another process.
        self_test: refuse a variant that returns other vectors on this CPU than on the exporting one.

    Raises:
        MatcherDirectoryError: a file is missing, changed, foreign or malformed, or the directory contains another
            matcher than before.
        ExecutionError: onnxruntime is missing, or it would run on another device.
        SelfTestError: the variant returns other vectors here.
    """
    # Imported late, so that a program starts without them until it loads a matcher.
    from flipkd_sdk.artifact.manifest import read_manifest
    from flipkd_sdk.runtimes.reference_vectors import refuse_other_vectors

    manifest = read_manifest(directory)
    if expected is not None and manifest != expected:
        raise MatcherDirectoryError(f"{directory}: was replaced since this matcher was loaded; load it again")
    model_of = functools.cache(functools.partial(checked_model, directory, manifest))
    devices = _devices(options)
    with _hash_in_background(functools.partial(model_of, _precision(manifest, options, devices[0]))):
        tokenizer = _load_tokenizer(directory, manifest)
    session, precision = _open_session(manifest, options, devices, model_of)
    _logger.info("%s: runs %s on %s", directory, precision, session.device)
    default_tokens = _BATCH_TOKENS_CPU if session.device == "cpu" else _BATCH_TOKENS_CUDA
    encoder = TextEncoder(
        tokenizer,
        session,
        dimension=manifest.encoder.dimension,
        max_batch_tokens=options.max_batch_tokens or default_tokens,
        cache=VectorCache(options.cache_size) if options.cache_size else None,
        refuse_long=options.on_truncate == "error",
    )
    if self_test and session.device == "cpu":
        refuse_other_vectors(directory, manifest, precision, encoder)
    return OpenMatcher(manifest, precision, encoder, _load_head(directory, manifest) if options.head else None)


@contextlib.contextmanager
def _hash_in_background(check: Callable[[], Path]) -> Iterator[None]:
    """Hash a file in a thread while the caller works: it takes a large part of the start."""

    def work() -> None:
        # The file is checked again when it is opened, which raises the error in the caller's thread.
        with contextlib.suppress(Exception):
            check()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _load_tokenizer(directory: Path, manifest: Manifest) -> TextTokenizer:
    path = _checked_file(directory, manifest.tokenizer, _MAX_TOKENIZER_BYTES)
    return load_tokenizer(path, manifest.tokenizer)


def _load_head(directory: Path, manifest: Manifest) -> PairHead | None:
    """Return the pair head, or None if the directory has none."""
    if manifest.head is None:
        return None
    # Imported late, so that a matcher without a head starts without them.
    from flipkd_sdk.pair_head.weights import MAX_BYTES, read_weights
    from flipkd_sdk.runtimes.pair_head import PairHead

    path = _checked_file(directory, manifest.head, MAX_BYTES)
    weights = read_weights(path, dimension=manifest.head.dimension)
    return PairHead(weights, manifest.tokenizer.max_length)


def load_sketch(directory: Path, manifest: Manifest) -> Sketch:
    """Return the sketch of the training texts.

    Raises:
        ConfigError: the directory has none.
        MatcherDirectoryError: the file is missing, changed or malformed.
    """
    from flipkd_sdk.artifact.familiarity import MAX_BYTES, read_sketch

    if manifest.familiarity is None:
        raise ConfigError(
            f"{directory}: this matcher has no familiarity sketch; export its run again with this release of flipkd-sdk"
        )
    path = _checked_file(directory, manifest.familiarity, MAX_BYTES)
    return read_sketch(path, dimension=manifest.encoder.dimension)


def load_profile(directory: Path, manifest: Manifest) -> Profile:
    """Return the profile of the domain.

    Raises:
        ConfigError: the directory has none.
        MatcherDirectoryError: the file is missing, changed or malformed.
    """
    from flipkd_sdk.artifact.profile import MAX_BYTES, read_profile

    if manifest.profile is None:
        raise ConfigError(
            f"{directory}: this matcher has no profile of its domain; export it again with this release of flipkd-sdk"
        )
    return read_profile(_checked_file(directory, manifest.profile, MAX_BYTES))


def checked_model(directory: Path, manifest: Manifest, precision: str) -> Path:
    """Return the path of a variant's model.

    Raises:
        MatcherDirectoryError: its file is missing, changed or too large.
    """
    return _checked_file(directory, manifest.variant(precision), _MAX_MODEL_BYTES)


def _checked_file(directory: Path, entry: NamedFile, largest: int) -> Path:
    from flipkd_sdk.artifact.manifest import checked_file

    # Checked before hashing, which would take hours for a sparse file of a terabyte.
    if entry.bytes > largest:
        raise MatcherDirectoryError(f"{directory / entry.file}: {entry.bytes} bytes; at most {largest} are accepted")
    return checked_file(directory, entry)


def choose_precision(available: Iterable[str], device: str) -> str:
    """Return the variant that ``precision="auto"`` selects on a device."""
    variants = list(available)
    preferred = _PREFERRED_ON_CPU if device == "cpu" else _PREFERRED_ON_CUDA
    return next((precision for precision in preferred if precision in variants), variants[0])


def _precision(manifest: Manifest, options: LoadOptions, device: str) -> str:
    return choose_precision(manifest.variants, device) if options.precision == "auto" else options.precision


def session_threads(options: LoadOptions) -> int:
    """Return the CPU threads of one run."""
    return options.threads or available_threads()


def _devices(options: LoadOptions) -> tuple[str, ...]:
    """Return the devices to try, in order."""
    if options.device != "auto":
        return (options.device,)
    return ("cuda", "cpu") if cuda_is_built_in() else ("cpu",)


def _open_session(
    manifest: Manifest, options: LoadOptions, devices: Sequence[str], model_of: Callable[[str], Path]
) -> tuple[EncoderSession, str]:
    """Open a session on the first device that starts, and return it with its precision."""
    device, *others = devices
    precision = _precision(manifest, options, device)
    try:
        session = open_session(
            model_of(precision),
            device=device,
            threads=session_threads(options),
            dimension=manifest.encoder.dimension,
            token_dimension=None if manifest.head is None else manifest.head.dimension,
            gpu_mem_limit=options.gpu_mem_limit,
        )
    except ExecutionError as error:
        if not others:
            raise
        _warn_once(f"running on the CPU, because CUDA is not available: {error}")
        return _open_session(manifest, options, others, model_of)
    return session, precision


@functools.cache
def _warn_once(message: str) -> None:
    _logger.warning(message)
