"""Options from TOML files and the command line, on top of a preset, validated."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from pydantic import ValidationError

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.training.config.presets import PRESETS
from flipkd_sdk.training.config.removed import removed_option
from flipkd_sdk.training.config.schema import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def load_config(path: Path) -> TrainConfig:
    """Read a TOML file of training options; paths in it are relative to the file.

    Raises:
        ConfigError: the file is missing or malformed, or an option is unknown or has an invalid value.
    """
    return validate_config(read_options(path), origin=str(path))


def read_options(path: Path) -> dict[str, object]:
    """Read a TOML file of training options as plain values without validation; resolve its paths against its folder.

    Raises:
        ConfigError: the file is missing or malformed.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not readable TOML: {error}") from error
    data = content.get("data")
    if isinstance(data, dict):
        for key in ("pairs", "dev", "test", "texts", "validation_texts", "queries", "exemplars"):
            if isinstance(data.get(key), str):
                data[key] = path.parent / data[key]
    return content


def override(content: Mapping[str, object], options: Mapping[str, object]) -> dict[str, object]:
    """Return nested plain values with options replaced by name, as in ``student.layer`` or ``seed``."""
    merged = dict(content)
    for name, value in options.items():
        section, dot, rest = name.partition(".")
        if not dot:
            merged[section] = value
            continue
        inner = merged.get(section)
        merged[section] = override(inner if isinstance(inner, dict) else {}, {rest: value})
    return merged


def validate_config(content: Mapping[str, object], *, origin: str) -> TrainConfig:
    """Build the options from nested plain values, on top of their preset.

    Raises:
        ConfigError: an option is wrong; the message names the origin, the option and the error.
    """
    if explanation := removed_option(content):
        raise ConfigError(f"{origin}: {explanation}")
    try:
        return TrainConfig.model_validate(_on_preset(content))
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        problem = "there is no such option" if unknown else first["msg"].removeprefix("Value error, ")
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ConfigError(f"{origin}: {f'option {option}: ' if first['loc'] else ''}{problem}{more}") from None


def _on_preset(content: Mapping[str, object]) -> Mapping[str, object]:
    preset, student = content.get("preset"), content.get("student")
    names = [preset] if isinstance(preset, str) and preset in PRESETS else []
    # A student at depth 0 is static, whatever the preset, unless another module of block 0 is named.
    if isinstance(student, dict) and student.get("layer") == 0 and "module" not in student and preset != "static":
        names.append("static")
    merged: dict[str, object] = dict(content)
    for name in names:
        for section, options in PRESETS[name].items():
            own = merged.get(section, {})
            # Anything but a section is kept for the validation to report.
            merged[section] = {**options, **own} if isinstance(own, dict) else own
    return merged
