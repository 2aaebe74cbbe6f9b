from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tiny import write_manifest, write_tiny_matcher

from flipkd_sdk.artifact.manifest import read_manifest
from flipkd_sdk.errors import ConfigError, ExecutionError, MatcherDirectoryError, UnsupportedFormatError
from flipkd_sdk.runtimes import load
from flipkd_sdk.runtimes.load import LoadOptions, choose_precision, open_matcher
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.onnx.session import EncoderSession, open_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def directory(tiny_matcher: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_matcher, tmp_path / "matcher")


@pytest.fixture(autouse=True)
def forget_what_was_said() -> Iterator[None]:
    load._warn_once.cache_clear()
    yield
    load._warn_once.cache_clear()


class Cuda:
    """Stands in for `open_session` on a machine with a CUDA wheel."""

    def __init__(self, *, starts: bool) -> None:
        self.starts = starts
        self.tried: list[tuple[str, str]] = []
        self.limits: list[int | None] = []

    def open(
        self,
        model: Path,
        *,
        device: str,
        threads: int,
        dimension: int,
        token_dimension: int | None,
        gpu_mem_limit: int | None,
    ) -> EncoderSession:
        self.tried.append((device, model.name))
        self.limits.append(gpu_mem_limit)
        if device != "cpu" and not self.starts:
            raise ExecutionError("no driver")
        opened = open_session(
            model, device="cpu", threads=threads, dimension=dimension, token_dimension=token_dimension
        )
        opened.device = device
        return opened

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(load, "cuda_is_built_in", lambda: True)
        monkeypatch.setattr(load, "open_session", self.open)


def test_auto_takes_cuda_where_it_starts(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cuda = Cuda(starts=True)
    cuda.install(monkeypatch)
    with Matcher.load(directory, gpu_mem_limit=1 << 30) as matcher:
        assert (matcher.device, matcher.precision) == ("cuda", "fp32")
    assert cuda.tried == [("cuda", "model_fp32.onnx")]
    assert cuda.limits == [1 << 30]
    assert caplog.records == []


def test_auto_says_what_it_chose(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="flipkd_sdk"), Matcher.load(directory):
        assert [record.getMessage() for record in caplog.records] == [f"{directory}: runs int8 on cpu"]


def test_auto_falls_back_to_the_cpu_s_own_choice_and_says_so_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cuda = Cuda(starts=False)
    cuda.install(monkeypatch)
    with caplog.at_level(logging.WARNING, logger="flipkd_sdk"):
        for _ in range(2):
            with Matcher.load(directory) as matcher:
                assert (matcher.device, matcher.precision) == ("cpu", "int8")
    assert cuda.tried[:2] == [("cuda", "model_fp32.onnx"), ("cpu", "model_int8.onnx")]
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["running on the CPU, because CUDA is not available: no driver"]


def test_cuda_never_falls_back(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cuda(starts=False).install(monkeypatch)
    with pytest.raises(ExecutionError, match="no driver"):
        Matcher.load(directory, device="cuda")


@pytest.mark.parametrize(
    ("available", "on_cpu", "on_cuda"),
    [
        (("fp32", "int8", "fp16"), "int8", "fp16"),
        (("fp16", "fp32"), "fp32", "fp16"),
        (("int8", "int4"), "int8", "int8"),
        (("int4", "fp16"), "int4", "fp16"),
        (("int4", "fp32"), "fp32", "fp32"),
        (("int4",), "int4", "int4"),
    ],
)
def test_auto_precision_suits_the_device(available: tuple[str, ...], on_cpu: str, on_cuda: str) -> None:
    assert choose_precision(available, "cpu") == on_cpu
    assert choose_precision(available, "cuda:1") == on_cuda


def test_a_named_precision_is_taken_or_missed(directory: Path) -> None:
    with Matcher.load(directory, precision="fp32") as matcher:
        assert matcher.precision == "fp32"
    with pytest.raises(MatcherDirectoryError, match="no 'int4' variant; it has: fp32, int8"):
        Matcher.load(directory, precision="int4")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"threads": 0}, "threads must be an integer of at least 1, or None for the default"),
        ({"max_batch_tokens": 0}, "max_batch_tokens must be an integer of at least 1, or None for the default"),
        ({"gpu_mem_limit": 0}, "gpu_mem_limit must be an integer of at least 1, or None for the default"),
        ({"cache_size": -1}, "cache_size"),
        ({"on_truncate": "cut"}, "unknown on_truncate 'cut'"),
    ],
)
def test_options_are_checked_before_anything_is_read(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Matcher.load("nowhere", **options)  # type: ignore[arg-type]


def test_a_missing_directory_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(MatcherDirectoryError, match=r"nowhere: no such directory"):
        Matcher.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", "model_int8.onnx"])
def test_a_missing_file_is_an_error_that_names_it(name: str, directory: Path) -> None:
    (directory / name).unlink()
    with pytest.raises(MatcherDirectoryError, match=rf"{name}: .*missing"):
        Matcher.load(directory)


@pytest.mark.parametrize("name", ["tokenizer.json", "model_int8.onnx"])
def test_a_changed_file_is_an_error_that_names_it(name: str, directory: Path) -> None:
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(MatcherDirectoryError, match=rf"{name}: .*SHA-256"):
        Matcher.load(directory)
    (directory / name).write_bytes(content[:-1])
    with pytest.raises(MatcherDirectoryError, match=rf"{name}: .*bytes instead of"):
        Matcher.load(directory)


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", "model_int8.onnx"])
def test_a_symlink_is_an_error_that_names_it(name: str, directory: Path, tmp_path: Path) -> None:
    shutil.move(directory / name, tmp_path / name)
    (directory / name).symlink_to(tmp_path / name)
    with pytest.raises(MatcherDirectoryError, match=name):
        Matcher.load(directory)


def test_only_the_variant_in_use_is_read(directory: Path) -> None:
    (directory / "model_fp32.onnx").unlink()
    with Matcher.load(directory, precision="int8") as matcher:
        assert 0 <= matcher.score("a", "b") <= 1


def test_a_file_elsewhere_and_a_newer_format_are_errors(directory: Path) -> None:
    manifest = read_manifest(directory)
    write_manifest(directory, replace(manifest, tokenizer=replace(manifest.tokenizer, file="../tokenizer.json")))
    with pytest.raises(MatcherDirectoryError, match="not a plain file name"):
        Matcher.load(directory)
    write_manifest(directory, replace(manifest, format_version=99))
    with pytest.raises(UnsupportedFormatError, match="upgrade flipkd-sdk"):
        Matcher.load(directory)


def test_opening_again_refuses_another_matcher(directory: Path) -> None:
    before = read_manifest(directory)
    open_matcher(directory, LoadOptions(), before)
    write_tiny_matcher(directory, seed=1)
    with pytest.raises(MatcherDirectoryError, match="was replaced since"):
        open_matcher(directory, LoadOptions(), before)


def test_each_run_stays_within_the_caller_s_limits(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, int]] = []
    run = EncoderSession.run
    monkeypatch.setattr(EncoderSession, "run", lambda self, ids, mask: shapes.append(ids.shape) or run(self, ids, mask))
    pairs = [(f"question {i} " * (i % 5), f"answer {i}") for i in range(300)]
    for budget, most in ((None, 512), (100, 100)):
        shapes.clear()
        with Matcher.load(directory, device="cpu", max_batch_tokens=budget, on_truncate="ignore") as matcher:
            matcher.score_pairs(pairs)
            assert most / 2 < max(rows * width for rows, width in shapes) <= most
            shapes.clear()
            matcher.score_pairs(pairs, batch_size=3)
            assert max(rows for rows, _ in shapes) == 3


def test_vectors_are_kept_between_calls_only_on_request(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    run = EncoderSession.run
    monkeypatch.setattr(EncoderSession, "run", lambda self, ids, mask: runs.append(ids) or run(self, ids, mask))
    for cache_size, expected in ((0, 2), (10, 1)):
        runs.clear()
        with Matcher.load(directory, cache_size=cache_size) as matcher:
            matcher.encode(["a text"])
            matcher.encode(["a text"])
        assert len(runs) == expected


@pytest.mark.parametrize("threads", [4097, 10**9, 10**30])
def test_more_threads_than_any_machine_runs_are_refused(threads: int) -> None:
    with pytest.raises(ConfigError, match=r"threads must be at most 4096; it is \d") as caught:
        LoadOptions(threads=threads)
    assert len(str(caught.value)) < 100
