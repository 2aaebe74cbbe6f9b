"""Write the tables of docs/training.md from the options and presets, with ``python docs/training_options.py``.

What stands above the marker is written by hand and stays. It needs the training packages, unlike docs/reference.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from flipkd_sdk.training.config.presets import PRESETS
from flipkd_sdk.training.config.schema import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

PAGE = Path(__file__).resolve().parent / "training.md"
MARKER = "<!-- All below is written by docs/training_options.py; change config.py and presets.py instead. -->"


def page() -> str:
    """The whole page, with its tables as the options are now."""
    by_hand, marker, _ = PAGE.read_text(encoding="utf-8").partition(MARKER)
    if not marker:
        raise SystemExit(f"{PAGE}: has no line {MARKER!r}; put it where the tables begin")
    return f"{by_hand}{MARKER}\n\n" + "\n".join([*_options(), *_presets()])


def _options() -> Iterator[str]:
    plain = {name: field for name, field in TrainConfig.model_fields.items() if _section(field) is None}
    yield from _table("Outside any section", "These stand at the top of the file.", plain, TrainConfig)
    for name, field in TrainConfig.model_fields.items():
        if (section := _section(field)) is not None:
            yield from _table(f"`[{name}]`", _inline(section.__doc__ or ""), section.model_fields, section)


def _table(title: str, text: str, fields: dict[str, FieldInfo], section: type[BaseModel]) -> Iterator[str]:
    yield from (f"## {title}", "", text, "", "| option | default | |", "|---|---|---|")
    for name, field in fields.items():
        yield f"| `{name}` | {_default(field.default)} | {_description(section, name)} |"
    yield ""


def _presets() -> Iterator[str]:
    for name, sections in PRESETS.items():
        yield from (f'## `preset = "{name}"`', "", "| option | value | |", "|---|---|---|")
        for section, options in sections.items():
            kind = _section(TrainConfig.model_fields[section])
            for option, value in options.items():
                described = _description(kind, option) if kind else ""
                yield f"| `{section}.{option}` | {_default(value)} | {described} |"
        yield ""


def _description(section: type[BaseModel], name: str) -> str:
    """What is said of an option by the class that has it, or by the one that it inherits it from."""
    kinds = (kind.model_fields.get(name) for kind in section.__mro__ if issubclass(kind, BaseModel))
    texts = [field.description for field in kinds if field is not None and field.description]
    if not texts:
        raise SystemExit(f"{section.__name__}.{name} has no line that says what it is; write one")
    return _inline(texts[0])


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "needed"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    shown = repr(value).replace("'", '"') if isinstance(value, str) else f"{value:g}"  # type: ignore[str-format]
    return f"`{shown}`"


def _inline(text: str) -> str:
    return " ".join(text.replace("``", "`").split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
