from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flipkd_sdk.errors import ExecutionError
from flipkd_sdk.runtimes.onnx import onnxruntime_import

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def fresh_import() -> Iterator[None]:
    onnxruntime_import.load_onnxruntime.cache_clear()
    yield
    onnxruntime_import.load_onnxruntime.cache_clear()


def run(code: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_missing_onnxruntime_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExecutionError, match=r"pip install flipkd-sdk\[cpu\]"):
        onnxruntime_import.load_onnxruntime()


def test_a_broken_onnxruntime_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ExecutionError, match=r"cannot be imported \(libcudart.*reinstall"):
        onnxruntime_import.load_onnxruntime()


def test_two_wheels_are_warned_about_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(onnxruntime_import, "both_wheels_in", lambda place: place.is_dir())
    with caplog.at_level(logging.WARNING, logger="flipkd_sdk"):
        onnxruntime_import.load_onnxruntime()
        onnxruntime_import.load_onnxruntime()
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "both onnxruntime and onnxruntime-gpu are installed and overwrite each other's files"
    ]


def test_wheels_are_told_by_their_folders(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime_gpu-1.30.0.dist-info").mkdir()
    (tmp_path / "onnxruntime_extensions-0.14.0.dist-info").mkdir()
    assert not onnxruntime_import.both_wheels_in(tmp_path)
    (tmp_path / "onnxruntime-1.32.0.dist-info").mkdir()
    assert onnxruntime_import.both_wheels_in(tmp_path)


def test_one_wheel_is_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    onnxruntime_import.load_onnxruntime()
    assert caplog.records == []


@pytest.mark.parametrize("setting", [None, "0"])
def test_the_telemetry_switch_is_left_as_it_was(setting: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if setting is None:
        monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    else:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", setting)
    before = dict(os.environ)
    onnxruntime_import.load_onnxruntime()
    assert dict(os.environ) == before


def test_an_onnxruntime_that_is_loaded_already_is_silenced(monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = onnxruntime_import.load_onnxruntime()
    onnxruntime_import.load_onnxruntime.cache_clear()
    called = []
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: called.append(True))
    onnxruntime_import.load_onnxruntime()
    assert called == [True]


def test_importing_the_package_loads_neither_onnxruntime_nor_torch() -> None:
    run(
        "import sys, flipkd_sdk, flipkd_sdk.runtimes.matcher\n"
        "assert not {'onnxruntime', 'torch', 'transformers', 'onnx'} & set(sys.modules), sys.modules.keys()"
    )


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_loading_and_scoring_is_light_silent_and_leaves_no_trace(tiny_matcher: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_matcher.rglob("*")}
    output = run(
        "import os, sys, logging\n"
        "environment = dict(os.environ)\n"
        "events = []\n"
        "sys.addaudithook(lambda event, arguments: event.startswith('socket.') and events.append(event))\n"
        "from flipkd_sdk import Matcher\n"
        "Matcher.load(sys.argv[1] if len(sys.argv) > 1 else os.environ['MATCHER']).score('a', 'b')\n"
        "assert not {'torch', 'transformers', 'onnx'} & set(sys.modules)\n"
        "assert dict(os.environ) == environment\n"
        "assert not logging.getLogger().handlers and not logging.getLogger('flipkd_sdk').handlers\n"
        "assert not events, events\n"
        # What a library opens past Python, as telemetry does, is no event, but stays open.
        "links = []\n"
        "for name in os.listdir('/proc/self/fd'):\n"
        "    try: links.append(os.readlink('/proc/self/fd/' + name))\n"
        "    except OSError: pass\n"
        "assert not [link for link in links if link.startswith('socket:') or '.db' in link], links",
        MATCHER=str(tiny_matcher),
        HOME=str(tmp_path),
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        PYTHONDONTWRITEBYTECODE="1",
    )
    assert output == ""
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in tiny_matcher.rglob("*")} == before
