"""An onnxruntime session on the requested device, or an error.

onnxruntime itself falls back to the CPU without an error, so the device is read back from the open session.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from flipkd_sdk.errors import ConfigError, ExecutionError, MatcherDirectoryError
from flipkd_sdk.runtimes.onnx.external_data import has_external_data
from flipkd_sdk.runtimes.onnx.onnxruntime_import import load_onnxruntime, onnxruntime_errors

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

OUTPUT = "sentence_embedding"
SECOND_OUTPUT = "token_vectors"
TOKEN_PARTS = "token_parts"  # noqa: S105
"""Output that explanations append to the graph."""
CUDA_PROVIDER = "CUDAExecutionProvider"
CPU_PROVIDER = "CPUExecutionProvider"

_INPUTS = ("input_ids", "attention_mask")
_SHARED_AXES = {OUTPUT: 1, SECOND_OUTPUT: 2}
"""Leading axes that an output shares with the inputs."""


class EncoderSession:
    """An open model: token ids in, vectors out. Safe to share between threads, but not with a forked child."""

    def __init__(self, inner: Any, device: str) -> None:  # noqa: ANN401 - onnxruntime ships no types
        self.device = device
        """``cpu``, ``cuda`` or ``cuda:N``."""
        self.inherited = False
        """True in a forked child, which lacks the session's threads, so that a run would hang."""
        self._inner = inner
        self._errors = onnxruntime_errors()
        _open_sessions.add(self)

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Run a padded batch.

        Args:
            input_ids: token ids, shape (batch, sequence).
            attention_mask: 1 for a token, 0 for padding, same shape.

        Returns:
            Unit vectors, shape (batch, dimension).

        Raises:
            ExecutionError: onnxruntime failed, or the model did not return one finite vector per text.
        """
        return self.run_outputs([OUTPUT], input_ids, attention_mask)[0]

    def run_with_tokens(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run a padded batch of a model with a pair head; arguments and errors as for `run`.

        Returns:
            Unit vectors, shape (batch, dimension), and token vectors, shape (batch, sequence, k).
        """
        vectors, tokens = self.run_outputs([OUTPUT, SECOND_OUTPUT], input_ids, attention_mask)
        return vectors, tokens

    def run_outputs(
        self, outputs: list[str], input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> list[NDArray[np.float32]]:
        """Run a padded batch and return some outputs of the graph; other arguments and errors as for `run`."""
        try:
            arrays: list[NDArray[np.float32]] = self._inner.run(
                outputs, {"input_ids": input_ids, "attention_mask": attention_mask}
            )
        except self._errors as error:
            raise ExecutionError(
                f"onnxruntime failed on a batch of {input_ids.shape[0]} texts of {input_ids.shape[1]} tokens on "
                f"{self.device} ({_one_line(error)}); if memory ran out, load with a smaller max_batch_tokens"
            ) from error
        for name, vectors in zip(outputs, arrays, strict=True):
            axes = _SHARED_AXES.get(name, 0)
            if vectors.shape[:axes] != input_ids.shape[:axes]:
                raise ExecutionError(
                    f"the model returned {len(vectors)} vectors for {len(input_ids)} texts; export it again"
                )
            if not np.isfinite(vectors).all():
                raise ExecutionError(
                    f"the model returned a vector that is not finite on {self.device}; use another precision"
                )
        return arrays

    def abandon(self) -> None:
        """Mark the session as unusable and leak it, because destroying it would wait for its threads for ever."""
        self.inherited = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._inner))


_open_sessions: weakref.WeakSet[EncoderSession] = weakref.WeakSet()


def _abandon_open_sessions() -> None:
    for session in list(_open_sessions):
        session.abandon()
    _open_sessions.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_open_sessions)


def open_session(
    model: Path,
    *,
    device: str,
    threads: int,
    dimension: int,
    token_dimension: int | None = None,
    gpu_mem_limit: int | None = None,
    appended: bytes = b"",
) -> EncoderSession:
    """Open a model file that was checked against the manifest.

    Args:
        model: the ONNX file.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: threads of one run on the CPU.
        dimension: length of the vectors in the manifest.
        token_dimension: length of the token vectors, if the matcher has a pair head.
        gpu_mem_limit: most bytes of device memory on CUDA; None for no limit.
        appended: serialized fields that are merged into the model.

    Raises:
        ExecutionError: onnxruntime is missing, cannot open the file, or would run on another device.
        MatcherDirectoryError: the graph is not the encoder that the manifest describes.
    """
    onnxruntime = load_onnxruntime()
    _refuse_external_data(model)
    on_cuda = device != "cpu"
    if on_cuda:
        _prepare_cuda(onnxruntime)
    try:
        inner = onnxruntime.InferenceSession(
            model.read_bytes() + appended if appended else _path_or_content(model),
            session_options(onnxruntime, threads),
            providers=providers(device, gpu_mem_limit),
            # Its own fallback retries on the CPU and prints to standard output.
            enable_fallback=False,
        )
    except onnxruntime_errors() as error:
        raise ExecutionError(f"{model}: onnxruntime cannot open it on {device} ({_one_line(error)})") from error
    if on_cuda and CUDA_PROVIDER not in inner.get_providers():
        raise ExecutionError(
            f"onnxruntime could not start CUDA for device {device!r} and would run on the CPU; check "
            "the driver and the CUDA and cuDNN libraries, or load with device='cpu'"
        )
    check_signature(model, inner, dimension, token_dimension)
    return EncoderSession(inner, device)


def cuda_is_built_in() -> bool:
    """Return True if the installed onnxruntime was built with CUDA.

    Raises:
        ExecutionError: no onnxruntime is installed.
    """
    return CUDA_PROVIDER in load_onnxruntime().get_available_providers()


def providers(device: str, gpu_mem_limit: int | None = None) -> list[str | tuple[str, dict[str, str]]]:
    """Return the execution providers for ``cpu``, ``cuda`` or ``cuda:N``, with their options.

    Raises:
        ConfigError: the device is none of them.
    """
    if device == "cpu":
        return [CPU_PROVIDER]
    kind, colon, number = device.partition(":")
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise ConfigError(f"unknown device {device!r}; use 'auto', 'cpu', 'cuda' or 'cuda:N'")
    options = {
        "device_id": number or "0",
        # TF32 keeps 10 bits of each factor, too few for scores that agree between batches and machines.
        "use_tf32": "0",
        "arena_extend_strategy": "kSameAsRequested",
    }
    if gpu_mem_limit is not None:
        options["gpu_mem_limit"] = str(gpu_mem_limit)
    return [(CUDA_PROVIDER, options), CPU_PROVIDER]


def session_options(onnxruntime: Any, threads: int) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    """Return options that suit a library in another program: freed memory is returned, and idle threads sleep."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3  # errors only
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Otherwise onnxruntime reads a file called .ort in another format, which has not been checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def check_signature(
    model: Path,
    inner: Any,  # noqa: ANN401 - onnxruntime ships no types
    dimension: int,
    token_dimension: int | None = None,
) -> None:
    """Check that the graph has the inputs and the outputs of an encoder, the second one only with a pair head.

    Raises:
        MatcherDirectoryError: they differ; the message names the first difference.
    """
    inputs = {value.name: value for value in inner.get_inputs()}
    if sorted(inputs) != sorted(_INPUTS):
        raise MatcherDirectoryError(
            f"{model}: its inputs are {', '.join(inputs) or 'none'} instead of {', '.join(_INPUTS)}; export it again"
        )
    for name in _INPUTS:
        value = inputs[name]
        dynamic = len(value.shape) == 2 and not any(isinstance(size, int) for size in value.shape)
        if value.type != "tensor(int64)" or not dynamic:
            raise MatcherDirectoryError(
                f"{model}: input {name} is {value.type} {value.shape} instead of int64 [batch, sequence]; "
                "export it again"
            )
    outputs = {value.name: value for value in inner.get_outputs()}
    expected = [(OUTPUT, "batch", dimension)]
    if token_dimension is not None:
        expected.append((SECOND_OUTPUT, "batch, sequence", token_dimension))
    for name, axes, size in expected:
        value = outputs.get(name)
        if value is None:
            raise MatcherDirectoryError(f"{model}: it has no output {name}; export it again")
        rank = axes.count(",") + 2
        if value.type != "tensor(float)" or len(value.shape) != rank or value.shape[-1] != size:
            raise MatcherDirectoryError(
                f"{model}: output {name} is {value.type} {value.shape} instead of float32 [{axes}, {size}]; "
                "export it again"
            )


def _path_or_content(model: Path) -> str | bytes:
    """Return the path, or the content if the path is not UTF-8, which onnxruntime cannot open."""
    path = str(model)
    try:
        path.encode()
    except UnicodeEncodeError:
        return model.read_bytes()
    return path


def _refuse_external_data(model: Path) -> None:
    try:
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            external = has_external_data(content)
    except ValueError as error:
        raise MatcherDirectoryError(f"{model}: not an ONNX file ({error}); export it again") from error
    if external:
        raise MatcherDirectoryError(f"{model}: keeps weights in another file; export it again into a single file")


def _prepare_cuda(onnxruntime: Any) -> None:  # noqa: ANN401 - onnxruntime ships no types
    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        raise ExecutionError(
            "the installed onnxruntime is built without CUDA; run: pip uninstall onnxruntime, then "
            "pip install flipkd-sdk[cuda], or load with device='cpu'"
        )
    # Finds the libraries of the nvidia-* wheels. It prints missing ones to standard output, which may be a table.
    with contextlib.redirect_stdout(sys.stderr):
        onnxruntime.preload_dlls()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
