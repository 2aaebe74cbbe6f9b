"""Checks of ``flipkd doctor``. Each check yields findings and changes nothing."""

from __future__ import annotations

import base64
import os
import platform
import shutil
import time
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from flipkd_sdk.artifact.limits import score_change
from flipkd_sdk.errors import FlipKDError
from flipkd_sdk.runtimes.onnx.instruction_sets import instruction_sets
from flipkd_sdk.runtimes.onnx.onnxruntime_import import load_onnxruntime
from flipkd_sdk.runtimes.onnx.threads import available_threads, cgroup_cpu_quota

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEEDED = ("flipkd-sdk", "numpy", "tokenizers", "click", "tqdm")
_WHEELS = ("onnxruntime", "onnxruntime-gpu")
_OPTIONAL = ("pyarrow", "ray", "torch", "transformers", "onnx")
_DOT_PRODUCT_SETS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_TEXTS = ("How do I reset my PIN?", "I forgot my PIN, what now?", "", "Is there a fee for cash abroad? " * 8)

_INTEGER_PRODUCT = base64.b64decode(
    "CAgSADpiChgKAWEKAWISAXkiDU1hdE11bEludGVnZXISAWdaFQoBYRIQCg4IAhIKCgMSAW0KAxIBa1oVCgFiEhAKDggDEgoKAxIBawoDEgFuYhUK"
    "AXkSEAoOCAYSCgoDEgFtCgMSAW5CBAoAEA0="
)
"""An ONNX model of one node: y = MatMulInteger(a, b) with a in uint8, shape (m, k), and b in int8, shape (k, n)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Finding of a check."""

    level: Literal["ok", "note", "warning", "error"]
    """``error``: scoring fails on this machine. ``warning``: scoring works, but not as intended."""
    what: str
    found: str
    advice: str = ""


def machine() -> Iterator[Finding]:
    """Check Python, processors and instruction sets."""
    system = f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {platform.machine()}"
    yield Finding("ok", "system", system)
    quota = cgroup_cpu_quota()
    limit = "" if quota is None else f", a quota of {quota:g} CPUs"
    yield Finding("ok", "threads", f"{available_threads()} by default; the machine has {os.cpu_count()}{limit}")
    sets = instruction_sets()
    if not sets:
        yield Finding("note", "instruction sets", "unknown on this system")
    elif _DOT_PRODUCT_SETS.isdisjoint(sets):
        advice = "8-bit models run, but slower than on CPUs with VNNI"
        yield Finding("note", "instruction sets", " ".join(sets), advice)
    else:
        yield Finding("ok", "instruction sets", " ".join(sets))


def packages() -> Iterator[Finding]:
    """Check the installed packages, and for the two onnxruntime wheels that overwrite each other."""
    versions = {name: _version(name) for name in (*_NEEDED, *_OPTIONAL)}
    for name in _NEEDED:
        if versions[name] is None:
            yield Finding("error", name, "not installed", "run: pip install --force-reinstall 'flipkd-sdk[cpu]'")
    there = ", ".join(f"{name} {version}" for name, version in versions.items() if version is not None)
    yield Finding("ok", "packages", there)
    wheels = [name for name in _WHEELS if _version(name) is not None]
    if len(wheels) > 1:
        advice = "uninstall both, then run: pip install 'flipkd-sdk[cpu]' or 'flipkd-sdk[cuda]'"
        yield Finding("warning", "onnxruntime wheels", "both, which overwrite each other's files", advice)
    elif wheels == [_WHEELS[0]] and shutil.which("nvidia-smi"):
        advice = "to use it: pip uninstall onnxruntime, then pip install 'flipkd-sdk[cuda]'"
        yield Finding("note", "NVIDIA GPU", "there, but the onnxruntime installed is for CPUs", advice)


def engine() -> Iterator[Finding]:
    """Check that onnxruntime loads, and that its providers start and multiply 8-bit integers correctly."""
    try:
        onnxruntime = load_onnxruntime()
    except FlipKDError as error:
        yield Finding("error", "onnxruntime", "not usable", str(error))
        return
    providers = onnxruntime.get_available_providers()
    yield Finding("ok", "onnxruntime", f"{onnxruntime.__version__} with {', '.join(providers)}")
    yield from _integer_products(onnxruntime)
    if _CUDA in providers:
        yield _cuda(onnxruntime)


def matcher(directory: str) -> Iterator[Finding]:
    """Check the files of a matcher, its verified instruction sets, and that its scores do not depend on the batch."""
    from flipkd_sdk.runtimes.matcher import Matcher

    start = time.perf_counter()
    try:
        opened = Matcher.load(directory, on_truncate="ignore")
    except FlipKDError as error:
        yield Finding("error", "matcher", "cannot be opened", str(error))
        return
    with opened:
        pairs = [(a, b) for a in _TEXTS for b in _TEXTS]
        alone = np.array([opened.score(a, b) for a, b in pairs])
        seconds = time.perf_counter() - start
        yield Finding("ok", "matcher", f"{opened.precision} on {opened.device}, opened and run in {seconds:.2f} s")
        change = float(np.abs(opened.score_pairs(pairs) - alone).max())
        if change <= score_change(opened.device):
            yield Finding("ok", "batch invariance", f"alone and batched scores differ by {change:.0e}")
        else:
            advice = "report it with this output; until then use another --precision"
            yield Finding("error", "batch invariance", f"a score moves by {change:.1e} with its batch", advice)
        yield _verified_here(opened.manifest.variant(opened.precision).instruction_sets, opened.precision)


def _verified_here(verified_on: tuple[str, ...], precision: str) -> Finding:
    here = set(instruction_sets())
    if precision != "int8" or not verified_on or here & _DOT_PRODUCT_SETS == set(verified_on) & _DOT_PRODUCT_SETS:
        return Finding("ok", "verification", f"{precision} was verified on this kind of CPU")
    found = f"{precision} was verified on {' '.join(verified_on)}, other 8-bit instructions than here"
    return Finding("note", "verification", found, "'flipkd verify' shows whether it computes the same here")


def _integer_products(onnxruntime: Any) -> Iterator[Finding]:  # noqa: ANN401 - onnxruntime ships no types
    session = onnxruntime.InferenceSession(_INTEGER_PRODUCT, providers=[_CPU])
    activations = np.random.default_rng(0).integers(128, 256, (8, 256)).astype(np.uint8)

    def exact(largest: int) -> bool:
        weights = np.full((256, 16), largest, np.int8)
        product = session.run(None, {"a": activations, "b": weights})[0]
        return bool(np.array_equal(product, activations.astype(np.int32) @ weights.astype(np.int32)))

    if not exact(63):
        advice = "use --precision fp32, and report it with this output"
        yield Finding("error", "8-bit self-test", "products of 7-bit weights are wrong", advice)
    elif not exact(127):
        found = "exact with 7-bit weights, which matchers have; 8-bit weights overflow on this CPU"
        yield Finding("ok", "8-bit self-test", found)
    else:
        yield Finding("ok", "8-bit self-test", "exact with 7-bit weights, which matchers have, and with 8-bit ones")


def _cuda(onnxruntime: Any) -> Finding:  # noqa: ANN401 - onnxruntime ships no types
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(_INTEGER_PRODUCT, options, providers=[_CUDA, _CPU])
    if _CUDA in session.get_providers():
        return Finding("ok", "CUDA", "starts")
    advice = "install the CUDA and cuDNN versions that this onnxruntime names in its release notes, or use --device cpu"
    return Finding("warning", "CUDA", "onnxruntime has it, but it does not start", advice)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
