"""Model directories that bring code along: none of it runs, and no question is asked."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tiny_models import pretrained_tokenizer, tiny_pairs, write_tiny_gguf, write_tiny_llama, write_tiny_teacher

from flipkd_sdk.errors import ModelSourceError
from flipkd_sdk.pairs import write_pairs
from flipkd_sdk.training.config.schema import StudentConfig
from flipkd_sdk.training.models.sources import resolve
from flipkd_sdk.training.models.student import create_student, load_tokenizer
from flipkd_sdk.training.models.teacher import load_teacher

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = [["config.json"], ["tokenizer_config.json"]]
ROOT = Path(__file__).parents[2]
SITE = StudentConfig(layer=1, rank=2)
CODE = """
import pathlib
pathlib.Path({marker!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM, BertModel, PreTrainedTokenizerFast
class Config(LlamaConfig):
    model_type = "evil"
class Model(LlamaForCausalLM):
    config_class = Config
class Encoder(BertModel):
    pass
class Tokenizer(PreTrainedTokenizerFast):
    pass
"""
OWN_CODE = {
    "AutoConfig": "evil.Config",
    "AutoModel": "evil.Encoder",
    "AutoModelForCausalLM": "evil.Model",
    "AutoTokenizer": [None, "evil.Tokenizer"],
}


@pytest.fixture(autouse=True)
def consent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[io.StringIO]:
    """Standard input that agrees to everything; nothing may read it."""
    agreed = io.StringIO("y\n" * 1000)
    monkeypatch.setattr(sys, "stdin", agreed)
    monkeypatch.setenv("FLIPKD_CACHE", str(tmp_path / "cache"))
    yield agreed
    assert agreed.tell() == 0, "standard input was read"
    assert not (tmp_path / "marker").exists(), "code of the model directory ran"


def change(file: Path, **entries: Any) -> None:
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({key: value for key, value in {**content, **entries}.items() if value is not None}))


def plant(path: Path, marker: Path, *files: str, known: bool) -> Path:
    """Add code to a model directory, and its entry to ``files``; ``known`` keeps names that transformers contains."""
    (path / "evil.py").write_text(CODE.format(marker=str(marker)))
    for name in files:
        change(path / name, auto_map=OWN_CODE)
        if not known:
            change(path / name, **{"config.json": {"model_type": "evil"}}.get(name, {"tokenizer_class": "Tokenizer"}))
    return path


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "files", [["config.json"], ["tokenizer_config.json"], ["config.json", "tokenizer_config.json"]]
)
@pytest.mark.parametrize("kind", ["teacher", "teacher from scratch", "student", "tokenizer"])
def test_code_of_a_model_directory_never_runs(tmp_path: Path, kind: str, files: list[str], known: bool) -> None:
    write = write_tiny_teacher if kind.startswith("teacher") else write_tiny_llama
    path = plant(write(tmp_path / "model"), tmp_path / "marker", *files, known=known)

    def load() -> object:
        if kind.startswith("teacher"):
            return load_teacher(resolve(str(path)), 32, from_scratch=kind.endswith("scratch")).encode(["a text"])
        return load_tokenizer(str(path)) if kind == "tokenizer" else create_student(str(path), SITE)

    if known or "config.json" not in files or kind == "tokenizer":
        # What transformers contains itself is used in place of the directory's code.
        try:
            load()
        except ModelSourceError as error:
            assert "\n" not in str(error)
    else:
        with pytest.raises(ModelSourceError, match=f"^{path}: .*needs Python code of its own.*never run") as raised:
            load()
        assert "\n" not in str(raised.value)


def test_files_beside_a_gguf_file_are_not_read(tmp_path: Path) -> None:
    model = tmp_path / "models"
    model.mkdir()
    write_tiny_gguf(model / "toy.gguf")
    pretrained_tokenizer().save_pretrained(model)
    plant(model, tmp_path / "marker", "config.json", "tokenizer_config.json", known=False)
    (model / "adapter_config.json").write_text("{}")
    assert create_student(resolve(str(model / "toy.gguf")).location, SITE).encoder_weight.shape[0] == 2


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
@pytest.mark.parametrize("value", ["evil/kernel", {"": "evil/kernel"}])
def test_attention_from_the_hub_is_refused(tmp_path: Path, key: str, value: object) -> None:
    path = write_tiny_llama(tmp_path / "model")
    change(path / "config.json", sub={key: value})
    with pytest.raises(ModelSourceError, match=rf"config\.json: {key} = .*only 'eager' and 'sdpa' are supported"):
        create_student(str(path), SITE)


def test_an_adapter_beside_a_model_is_refused(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "model")
    (path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "evil/model"}))
    with pytest.raises(ModelSourceError, match=r"adapter_config\.json: a model with an adapter beside it; merge"):
        create_student(str(path), SITE)


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_training_from_the_command_line_asks_nothing(tmp_path: Path, role: str) -> None:
    models = {"teacher": write_tiny_teacher(tmp_path / "teacher"), "student": write_tiny_llama(tmp_path / "student")}
    plant(models[role], tmp_path / "marker", "config.json", "tokenizer_config.json", known=False)
    write_pairs(tiny_pairs(40), tmp_path / "pairs.csv")
    sources = [f"--{name}={path}" for name, path in models.items()]
    done = subprocess.run(
        [sys.executable, "-m", "flipkd_sdk.cli.main", "train", "--pairs=pairs.csv", "--out=run", *sources],
        cwd=tmp_path,
        input="y\n" * 10_000,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HOME": str(tmp_path / "hub")},
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"{models[role]}: " in done.stderr
    assert "needs Python code of its own" in done.stderr
    assert not (tmp_path / "run").exists()


def test_every_model_is_loaded_without_trust() -> None:
    """No call leaves the decision to a default, which is to ask."""
    found, others = 0, ("StaticModel", "PeftModel")
    for folder in ("flipkd_sdk", "exporters", "runtimes", "cli", "benchmarks", "examples"):
        for file in (ROOT / folder).rglob("*.py"):
            for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not isinstance(call, ast.Call):
                    continue
                name = getattr(call.func, "attr", getattr(call.func, "id", ""))
                owner = getattr(getattr(call.func, "value", None), "id", "")
                if name in ("from_pretrained", "from_config", "SentenceTransformer") and owner not in others:
                    found += 1
                    trust = [word.value for word in call.keywords if word.arg == "trust_remote_code"]
                    assert [getattr(value, "value", None) for value in trust] == [False], f"{file}:{call.lineno}"
    assert found >= 5
