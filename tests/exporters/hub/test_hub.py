from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from local_hub import COMMIT, LocalHub, local_hub
from tiny import add_self_test, write_tiny_matcher

from flipkd_sdk import Matcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("huggingface_hub", reason="the hub needs: pip install 'flipkd-sdk[hub]'")


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with local_hub() as running:
        yield running


@pytest.fixture
def matcher(tmp_path: Path) -> Path:
    path = write_tiny_matcher(tmp_path / "matcher", precisions=("fp32", "int8"))
    add_self_test(path)
    (path / "README.md").write_text("# Text matcher\n", encoding="utf-8")
    return path


def flipkd(hub: LocalHub, tmp_path: Path, *arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, because huggingface_hub reads its environment once."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_test",
        "HF_HUB_DISABLE_XET": "1",
        **changes,
    }
    command = [sys.executable, "-m", "flipkd_sdk", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=environment)


def test_a_matcher_goes_to_the_hub_and_comes_back(hub: LocalHub, matcher: Path, tmp_path: Path) -> None:
    (matcher / "notes.txt").write_text("private")
    done = flipkd(hub, tmp_path, "push", matcher, "team/faq")
    assert done.returncode == 0, done.stderr
    assert COMMIT in done.stdout
    assert sorted(hub.files["team/faq"]) == [
        "README.md",
        "manifest.json",
        "model_fp32.onnx",
        "model_int8.onnx",
        "self_test.json",
        "tokenizer.json",
    ]
    hub.cut = {"model_int8.onnx"}
    out = tmp_path / "pulled"
    done = flipkd(hub, tmp_path, "pull", "team/faq", "--out", out)
    assert done.returncode == 0, done.stderr
    with Matcher.load(out) as pulled, Matcher.load(matcher) as own:
        assert pulled.score("card lost", "my card is gone") == own.score("card lost", "my card is gone")
    assert {path.name for path in out.iterdir()} == set(hub.files["team/faq"])
    again = flipkd(hub, tmp_path, "pull", "team/faq", "--out", out)
    assert again.returncode == 1
    assert "exists already" in again.stderr
    # The files of the first commit, whatever the branch holds by now.
    assert all(COMMIT in request or "manifest.json" in request for request in hub.requests if "/resolve/" in request)


def test_what_the_hub_serves_is_checked(hub: LocalHub, matcher: Path, tmp_path: Path) -> None:
    hub.files["team/faq"] = {path.name: path.read_bytes() for path in matcher.iterdir()}
    model = hub.files["team/faq"]["model_fp32.onnx"]
    hub.files["team/faq"]["model_fp32.onnx"] = model[:-1] + bytes([model[-1] ^ 1])
    done = flipkd(hub, tmp_path, "pull", "team/faq", "--out", tmp_path / "pulled")
    assert done.returncode == 1
    assert "its SHA-256 differs from the manifest's" in done.stderr
    assert not (tmp_path / "pulled").exists()


def test_a_changed_matcher_is_not_uploaded(hub: LocalHub, matcher: Path, tmp_path: Path) -> None:
    (matcher / "tokenizer.json").write_text("{}")
    done = flipkd(hub, tmp_path, "push", matcher, "team/faq")
    assert done.returncode == 1
    assert "the file was changed" in done.stderr
    assert hub.requests == []


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("command", ["push", "pull"])
def test_a_hub_that_refuses_is_one_clear_error(
    hub: LocalHub, matcher: Path, tmp_path: Path, command: str, status: int
) -> None:
    hub.status = status
    arguments = [matcher, "team/faq"] if command == "push" else ["team/faq", "--out", tmp_path / "pulled"]
    done = flipkd(hub, tmp_path, command, *arguments)
    assert done.returncode == 1
    assert "team/faq: the hub does not answer as needed" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "pulled").exists()


def test_a_hub_out_of_reach_and_a_bad_name_are_one_clear_error(hub: LocalHub, tmp_path: Path) -> None:
    out = tmp_path / "pulled"
    done = flipkd(hub, tmp_path, "pull", "team/faq", "--out", out, HF_ENDPOINT="http://127.0.0.1:9")
    assert (done.returncode, "check the name, HF_TOKEN, HF_ENDPOINT" in done.stderr) == (1, True), done.stderr
    done = flipkd(hub, tmp_path, "pull", "no/such/name", "--out", out)
    assert (done.returncode, "is no name of a repository" in done.stderr) == (1, True), done.stderr
    assert not out.exists()
