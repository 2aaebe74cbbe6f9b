"""Import of onnxruntime: late, without telemetry, and with an error that names the extra to install.

The two wheels, ``onnxruntime`` for the CPU and ``onnxruntime-gpu`` for CUDA, install the same files, so the last one
wins. The package therefore depends on neither, and the user selects one by an extra.

From version 1.29 on the official wheels start a telemetry client when the module is imported: it keeps a database in
the user's cache directory, opens sockets, and makes a forked child hang at exit. Its function
``disable_telemetry_events`` comes too late for all three; only the variable ``ORT_DISABLE_TELEMETRY`` prevents them.
onnxruntime reads it once, at import, and it is set here for that time only.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flipkd_sdk.errors import ExecutionError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SWITCH = "ORT_DISABLE_TELEMETRY"

_logger = logging.getLogger("flipkd_sdk")


@functools.cache
def load_onnxruntime() -> Any:  # noqa: ANN401 - onnxruntime ships no types
    """Import onnxruntime with its telemetry off, and warn once if both of its wheels are installed.

    If the user has set ``ORT_DISABLE_TELEMETRY``, to any value, it is left as it is.

    Raises:
        ExecutionError: no onnxruntime is installed, or it cannot be imported.
    """
    imported_before = "onnxruntime" in sys.modules
    with _telemetry_switched_off():
        try:
            onnxruntime = importlib.import_module("onnxruntime")
        except ModuleNotFoundError as error:
            raise ExecutionError(
                "onnxruntime is not installed; run: pip install flipkd-sdk[cpu], or flipkd-sdk[cuda] for an NVIDIA GPU"
            ) from error
        except ImportError as error:
            raise ExecutionError(f"onnxruntime is installed but cannot be imported ({error}); reinstall it") from error
    if imported_before and _SWITCH not in os.environ:
        onnxruntime.disable_telemetry_events()
    if both_wheels_in(Path(str(onnxruntime.__file__)).parent.parent):
        _logger.warning(
            "both onnxruntime and onnxruntime-gpu are installed and overwrite each other's files; uninstall both, "
            "then run: pip install flipkd-sdk[cpu] or flipkd-sdk[cuda]"
        )
    return onnxruntime


def both_wheels_in(site_packages: Path) -> bool:
    """Return True if onnxruntime for the CPU and for CUDA are both installed in a directory.

    Only folder names are read: importing `importlib.metadata` takes longer than all the rest of this package.
    """
    folders = [path.name for path in site_packages.iterdir() if path.name.endswith(".dist-info")]
    return all(any(name.startswith(f"{wheel}-") for name in folders) for wheel in ("onnxruntime", "onnxruntime_gpu"))


@functools.cache
def onnxruntime_errors() -> tuple[type[Exception], ...]:
    """Return every exception class of onnxruntime; they share no base class of their own."""
    load_onnxruntime()
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    own = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*own, RuntimeError, ValueError)


@contextlib.contextmanager
def _telemetry_switched_off() -> Iterator[None]:
    if _SWITCH in os.environ:
        yield
        return
    os.environ[_SWITCH] = "1"
    try:
        yield
    finally:
        os.environ.pop(_SWITCH, None)
