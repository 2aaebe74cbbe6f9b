from __future__ import annotations

import importlib.util
from pathlib import Path

from flipkd_sdk.training.config.presets import PRESETS
from flipkd_sdk.training.config.schema import TrainConfig

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "training_options.py"
PAGE = SCRIPT.parent / "training.md"


def test_the_training_page_shows_the_options_as_they_are() -> None:
    spec = importlib.util.spec_from_file_location("training_options", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert PAGE.read_text(encoding="utf-8") == script.page(), "run: python docs/training_options.py"


def test_every_section_and_preset_has_a_table() -> None:
    headings = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("## `")]
    plain = {"preset", "objective", "precision", "seed"}
    sections = [f"## `[{name}]`" for name in TrainConfig.model_fields if name not in plain]
    assert headings == sections + [f'## `preset = "{name}"`' for name in PRESETS]
