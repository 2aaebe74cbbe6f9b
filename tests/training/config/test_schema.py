from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.training.config.load import load_config, override, read_options, validate_config
from flipkd_sdk.training.config.presets import PRESETS, Preset
from flipkd_sdk.training.config.schema import TrainConfig

MINIMAL: dict[str, Any] = {"data": {"pairs": "pairs.csv"}}


def test_pairs_are_all_that_is_needed() -> None:
    config = validate_config(MINIMAL, origin="test")
    assert config.data.pairs == Path("pairs.csv")
    assert config.labels.learning_rate < config.alignment.learning_rate


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "option data: Field required"),
        ({"data": {}}, "option data.pairs: Field required"),
        ({"data": {"pairs": "p", "queries": "q"}}, "option data: queries and exemplars go together; give both files"),
        ({"teacher": {"kind": "none"}}, "test: teacher.kind = 'none' has no use for loss.mcl"),
        ({"teacher": {"folds": 3, "epochs": 0}}, "test: teacher.folds above 1 needs an encoder that is fine-tuned"),
        ({"teacher": {"kind": "scores", "epochs": 1}}, "test: teacher.epochs: there is nothing to fine-tune if"),
        ({"teacher": {"from_scratch": True, "epochs": 0}}, "test: teacher.from_scratch needs teacher.epochs above 0"),
        ({"sed": 1}, "option sed: there is no such option"),
        ({"student": {"lyer": 1}}, "option student.lyer: there is no such option"),
        ({"student": {"layer": "four"}}, "option student.layer: Input should be a valid integer"),
        ({"student": {"layer": -2}}, "option student.layer: Input should be greater than or equal to -1"),
        ({"preset": "papers"}, "option preset: Input should be 'paper', 'labels' or 'static'"),
        ({"preset": "paper", "student": 4}, "option student: Input should be a valid dictionary"),
        ({"preset": "paper", "student": {"lyer": 1}}, "option student.lyer: there is no such option"),
        ({"student": {"attention": "both"}}, "option student.attention: Input should be 'causal' or 'bidirectional'"),
        ({"student": 4}, "option student: Input should be a valid dictionary"),
        ({"alignment": {"learning_rate": float("nan")}}, "option alignment.learning_rate: "),
        ({"loss": {"margin": float("inf")}}, "option loss.margin: Input should be a finite number"),
        ({"objective": "f2"}, "option objective: unknown threshold objective 'f2'; use 'f1', 'precision>=P'"),
        ({"objective": "precision>=2"}, "option objective: .*the precision must be a number in"),
        ({"seed": -1, "sed": 1}, r"option seed: .* \(and 1 more\)"),
        ({"loss": {"similarity": 0, "alignment": 0}}, "test: alignment.epochs needs loss.similarity or loss.alignment"),
        (
            {"alignment": {"epochs": 0}, "loss": {"similarity": 0, "alignment": 0, "mcl": 0}},
            "test: labels.epochs needs a weight under loss",
        ),
    ],
)
def test_an_option_that_cannot_be_is_named_in_one_line(content: dict[str, Any], message: str) -> None:
    given = content if "data" in content or not content else MINIMAL | content
    with pytest.raises(ConfigError, match=f"^test: .*{message}|^{message}") as raised:
        validate_config(given, origin="test")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"preset": "edge"}, r"option preset = 'edge' was removed: .* leave it out, and set noise_filter.positive_qu"),
        ({"student": {"blocks": "spread"}}, "option student.blocks was removed: .* cost 0.035 .*; leave it out"),
        ({"student": {"blocks": "first"}}, "option student.blocks was removed"),
        ({"mining": {"negatives": 0}}, "option mining.negatives was removed: .*no measured gain; leave it out"),
    ],
)
def test_a_removed_option_is_refused_with_the_reason_and_the_remedy(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^test: {message}") as raised:
        validate_config(MINIMAL | content, origin="test")
    assert "\n" not in str(raised.value)


def test_losses_may_be_off_where_their_stage_is_off() -> None:
    content = {"loss": {"similarity": 0, "alignment": 0}, "alignment": {"epochs": 0}}
    assert validate_config(MINIMAL | content, origin="test").loss.mcl == 1.0


def test_a_section_may_be_given_in_part() -> None:
    whole = validate_config(MINIMAL, origin="test")
    for stage in ("alignment", "labels"):
        config = validate_config(MINIMAL | {stage: {"epochs": 7}}, origin="test")
        assert getattr(config, stage) == getattr(whole, stage).model_copy(update={"epochs": 7})


def test_a_file_is_read_with_paths_relative_to_it(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text(
        'seed = 3\n[data]\npairs = "data/pairs.csv"\ntexts = "/abs/texts.txt"\nqueries = "q.csv"\nexemplars = "e.csv"\n'
        "[student]\nlayer = 2\n"
    )
    config = load_config(path)
    assert config.data.pairs == tmp_path / "data" / "pairs.csv"
    assert config.data.texts == Path("/abs/texts.txt")
    assert (config.data.queries, config.data.exemplars) == (tmp_path / "q.csv", tmp_path / "e.csv")
    assert config.data.dev is None
    assert (config.seed, config.student.layer) == (3, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"seed = ", "not readable TOML"),
        (b"\xff\xfe", "not readable TOML"),
        (b"data = 3", "option data: Input should be a valid dictionary"),
        (b"[data]\npairs = 3", "option data.pairs: Input is not a valid path"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "train.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"{path}: {message}"):
        load_config(path)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not readable TOML"):
        read_options(tmp_path)


def test_overriding_touches_the_named_options_alone() -> None:
    content = {"data": {"pairs": "a.csv", "dev": "b.csv"}, "seed": 1}
    merged = override(content, {"data.dev": "c.csv", "seed": 2, "student.layer": 3})
    assert merged == {"data": {"pairs": "a.csv", "dev": "c.csv"}, "seed": 2, "student": {"layer": 3}}
    assert content == {"data": {"pairs": "a.csv", "dev": "b.csv"}, "seed": 1}


@pytest.mark.parametrize("name", ["a.b.c", "seed.x", ".seed", "seed.", "student.layer.deep"])
def test_overriding_what_is_no_option_ends_as_a_config_error(name: str) -> None:
    with pytest.raises(ConfigError, match="test: option "):
        validate_config(override(MINIMAL | {"seed": 1}, {name: 1}), origin="test")


@pytest.mark.parametrize(
    ("content", "width"),
    [
        ({}, 960),
        ({"student": {"layer": 4}}, 960),
        ({"student": {"mlp_width": 100}}, 100),
        ({"student": {"mlp_width": "all"}}, None),
        ({"student": {"mlp_width": None}}, None),
        ({"student": {"source": "another"}}, None),
        ({"student": {"source": "another", "mlp_width": 100}}, 100),
        ({"preset": "paper"}, None),
        ({"preset": "static"}, None),
        ({"student": {"layer": 0}}, None),
        ({"loss": {"label_lm": 0.5}}, None),
    ],
)
def test_neurons_are_left_out_by_default_of_the_default_llm_alone(content: dict[str, Any], width: int | None) -> None:
    config = validate_config({"data": {"pairs": "pairs.csv"}, **content}, origin="test")
    assert config.student.mlp_width == width
    # Options of a run are read back as they are, also those of a release with another default.
    assert validate_config(config.model_dump(), origin="test").student.mlp_width == width


def test_the_options_survive_their_own_json() -> None:
    config = validate_config(MINIMAL | {"objective": "precision>=0.9", "data": {"pairs": "p", "dev": "d"}}, origin="")
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_a_start_and_what_is_given_comes_before_it(preset: Preset) -> None:
    content = MINIMAL | {"preset": preset}
    config = validate_config(content, origin="test")
    for section, options in PRESETS[preset].items():
        for option, value in options.items():
            assert getattr(getattr(config, section), option) == value
    own = validate_config(content | {"student": {"rank": 7}, "labels": {"epochs": 9}}, origin="test")
    assert (own.student.rank, own.labels.epochs) == (7, 9)
    assert own.student == config.student.model_copy(update={"rank": 7})
    assert TrainConfig.model_validate_json(own.model_dump_json()) == own


def test_the_presets_are_what_the_method_calls_for() -> None:
    paper, labels, static = (validate_config(MINIMAL | {"preset": name}, origin="") for name in PRESETS)
    assert (paper.student.rank, paper.student.layer, paper.student.attention) == (256, -1, "causal")
    assert paper.loss.label_lm > 0
    assert paper.noise_filter.positive_quantile > 0
    assert (labels.loss.mcl, labels.loss.similarity, labels.loss.alignment, labels.alignment.epochs) == (0, 0, 0, 0)
    assert labels.loss.cosent > 0
    assert (static.student.layer, static.student.is_static, static.student.mlp_width) == (0, True, None)
    assert static.alignment.loraplus_lr_ratio == 1
    assert not static.head.enabled
