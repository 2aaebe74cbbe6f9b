"""Hooks of the documentation site: the page of training options, and links that leave ``docs/``."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_OUTSIDE = re.compile(r"!?\[([^\]]*)\]\(\.\./[^)]*\)")
_CONFIG = "flipkd_sdk.training.config"


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:  # noqa: ANN401 - a page of MkDocs
    """Return a page with its generated part, and without links to files that are not on the site."""
    if page.file.src_uri == "training-options.md":
        markdown = markdown.replace("\nOPTIONS\n", "\n" + "\n".join(_options()))
    # Plain text until the project has a home to link to.
    return _OUTSIDE.sub(r"\1", markdown)


def _options() -> Iterator[str]:
    """Yield a heading per section of the training options, and the directive that renders its fields."""
    from pydantic import BaseModel

    from flipkd_sdk.training.config.presets import PRESETS
    from flipkd_sdk.training.config.schema import TrainConfig

    fields = {name: field.annotation for name, field in TrainConfig.model_fields.items()}
    sections = {name: kind for name, kind in fields.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}
    plain = [name for name in fields if name not in sections]
    yield from _section("Outside any section", TrainConfig.__name__, plain)
    for name, kind in sections.items():
        yield from _section(f"`[{name}]`", kind.__name__, list(kind.model_fields))
    yield from ("## Presets", "")
    for name, options in PRESETS.items():
        lines = [
            f"{section}.{option} = {json.dumps(value)}"
            for section in options
            for option, value in options[section].items()
        ]
        yield from (f"### `preset = {json.dumps(name)}`", "", "```toml", *lines, "```", "")


def _section(title: str, kind: str, fields: list[str]) -> Iterator[str]:
    yield from (f"## {title}", "", f"::: {_CONFIG}.schema.{kind}", "    options:")
    yield from ("      show_root_heading: false", "      show_root_toc_entry: false", "      heading_level: 3")
    yield from (f"      members: {json.dumps(fields)}", "      show_bases: false", "")
