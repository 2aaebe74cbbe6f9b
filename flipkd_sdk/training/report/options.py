"""Options of a run as tables: first those that differ from their defaults."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from flipkd_sdk.pages.html import Html, element, join
from flipkd_sdk.pages.page import Section
from flipkd_sdk.pages.parts import details, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flipkd_sdk.training.config.schema import TrainConfig


def options_section(config: TrainConfig) -> Section:
    """Return the section."""
    rows = list(_rows(config))
    changed = [row[:2] for row, is_default in rows if not is_default]
    body = join(
        [
            element("p", "These options differ from their defaults; config.json beside this report contains all."),
            table(("option", "value"), changed, caption="Options that differ from their defaults", text_columns=(0, 1)),
            details("All options", _all(rows)),
        ]
    )
    return Section("options", "Options", body)


def _all(rows: list[tuple[tuple[str, str, str], bool]]) -> Html:
    cells = [row for row, _ in rows]
    return table(("option", "value", "meaning"), cells, caption="All options", text_columns=(0, 1, 2))


def _rows(section: BaseModel, prefix: str = "") -> Iterator[tuple[tuple[str, str, str], bool]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _rows(value, f"{prefix}{name}.")
        else:
            meaning = " ".join((field.description or "").replace("`", "").split())
            yield (f"{prefix}{name}", _shown(value), meaning), value == field.default


def _shown(value: Any) -> str:  # noqa: ANN401 - the values of options
    if value is None:
        return "not set"
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)
