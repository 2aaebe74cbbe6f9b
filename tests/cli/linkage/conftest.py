from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from flipkd_sdk.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Run = Callable[..., Result]
    Write = Callable[[str, Sequence[Sequence[object]]], Path]


@pytest.fixture
def run(tiny_matcher: Path) -> Run:
    """``flipkd COMMAND`` with the tiny matcher."""

    def invoke(command: str, *arguments: object) -> Result:
        given = [command, str(tiny_matcher), *map(str, arguments)]
        return CliRunner().invoke(cli, [*given, "--precision", "fp32"], prog_name="flipkd")

    return invoke


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a CSV with a semicolon between the fields."""

    def to_file(name: str, rows: Sequence[Sequence[object]]) -> Path:
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=";", lineterminator="\n").writerows(rows)
        return path

    return to_file
