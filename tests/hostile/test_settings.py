"""Language packs, training options and numbers that break the parsers below them: one line of error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from tiny_models import write_tiny_llama

from flipkd_sdk.cli.main import cli
from flipkd_sdk.contrast.pack_file import load_pack
from flipkd_sdk.errors import ConfigError, InvalidPairsError, ModelSourceError
from flipkd_sdk.pairs import read_pairs
from flipkd_sdk.training.config.load import load_config
from flipkd_sdk.training.models.sources import resolve

if TYPE_CHECKING:
    from pathlib import Path

TOML = {
    "nested lists": "a = " + "[" * 5000,
    "nested tables": "a = " + "{a = " * 5000,
    "a number of 5000 digits": "a = " + "9" * 5000,
    "a date that is none": "a = 1979-99-99",
    "a key twice": "a = 1\na = 2",
    "a NUL": "a = '\0'",
    "a byte order mark in the middle": "a = 1\n\ufeffb = 2",
    "half a surrogate pair": 'a = "\\ud800"',
    "nothing after the sign": "a =",
}


@pytest.mark.parametrize("content", TOML)
@pytest.mark.parametrize("read", [load_pack, load_config])
def test_toml_that_breaks_the_parser_is_refused(tmp_path: Path, read: object, content: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(TOML[content], encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "score", ["1" + "0" * 400, "-1e999", "NaN", '"nan"', '"1_0"', "true", "[]", "{}", '"' + "9" * 5000 + '"']
)
def test_a_teacher_score_that_is_no_number_is_refused(tmp_path: Path, score: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(f'{{"text_a": "a", "text_b": "b", "label": 1, "s": {score}}}\n')
    with pytest.raises(
        InvalidPairsError, match=r"p\.jsonl:1: column 's': teacher score .* expected a number"
    ) as caught:
        read_pairs(path, teacher_score_column="s")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("depth", [150, 199, 250, *range(960, 1000), 5000, 100_000])
@pytest.mark.parametrize("out", ["out.csv", "out.jsonl", "out.parquet"])
def test_a_nested_value_is_copied_or_refused(tiny_matcher: Path, tmp_path: Path, out: str, depth: int) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"text_a": "a", "text_b": "b", "x": ' + "[" * depth + "]" * depth + "}\n")
    done = CliRunner().invoke(cli, ["score", str(tiny_matcher), str(path), "--out", str(tmp_path / out)])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    # The object itself is the first level.
    assert (done.exit_code, (tmp_path / out).exists()) == ((0, True) if depth < 200 else (1, False))
    if depth >= 200:
        assert "p.jsonl:1: " in done.stderr


def test_half_surrogate_pairs_are_written_out_in_parquet(tiny_matcher: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "p.jsonl"
    path.write_text('{"text_a": "a", "text_b": "b", "\\ud800": "\\udc00x"}\n')
    out = tmp_path / "out.parquet"
    assert CliRunner().invoke(cli, ["score", str(tiny_matcher), str(path), "--out", str(out)]).exit_code == 0
    assert pq.read_table(out)["\\ud800"].to_pylist() == ["\\udc00x"]


SHARDS = {
    "a parent": '{"weight_map": {"a": "../weights.safetensors"}}',
    "a path from the root": '{"weight_map": {"a": "/etc/passwd"}}',
    "a number": '{"weight_map": {"a": 1}}',
    "two types": '{"weight_map": {"a": 1, "b": "x"}}',
    "a list": '{"weight_map": {"a": []}}',
    "no map": "{}",
    "no object": "[]",
    "nested lists": "[" * 50_000,
    "no JSON": "{",
    "an absent file": '{"weight_map": {"a": "b.safetensors"}}',
}


@pytest.mark.parametrize("shards", SHARDS)
def test_an_index_of_weights_elsewhere_is_refused(tmp_path: Path, shards: str) -> None:
    model = write_tiny_llama(tmp_path / "model")
    (model / "model.safetensors").rename(tmp_path / "weights.safetensors")
    (model / "model.safetensors.index.json").write_text(SHARDS[shards])
    with pytest.raises(ModelSourceError) as caught:
        resolve(str(model))
    assert "\n" not in str(caught.value)
    assert str(model) in str(caught.value)


def test_an_index_of_weights_in_the_directory_is_accepted(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "model")
    (model / "model.safetensors").rename(model / "model-1.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    assert len(resolve(str(model)).reference.revision) == 64
