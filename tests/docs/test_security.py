"""Figures of docs/security.md are the constants of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from flipkd_sdk.artifact import manifest, reference_vectors
from flipkd_sdk.cli import options
from flipkd_sdk.cli.scoring import journal
from flipkd_sdk.cli.tables import parquet
from flipkd_sdk.runtimes import load
from flipkd_sdk.runtimes.encoding import pattern_limits, tokenizer_limits
from flipkd_sdk.runtimes.onnx import external_data
from flipkd_sdk.runtimes.search import files
from flipkd_sdk.tables import decoding, reader

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"
LIMITS = {
    "characters of a row": decoding.MAX_ROW_LENGTH,
    "levels of nesting in a JSONL value": reader.MAX_NESTING,
    "bytes of a batch of Parquet rows": parquet._BATCH_BYTES,
    "bytes that a Parquet column": parquet._BOMB_BYTES,
    "or, if that is more, times": parquet._BOMB_RATIO,
    "bytes of a manifest": manifest._MAX_MANIFEST_BYTES,
    "bytes of a file name in a manifest": manifest._MAX_FILE_NAME_BYTES,
    "bytes of a tokenizer file": load._MAX_TOKENIZER_BYTES,
    "bytes of a model file": load._MAX_MODEL_BYTES,
    "fields of an ONNX model": external_data._MAX_FIELDS,
    "levels of nesting in an ONNX model": external_data._MAX_DEPTH,
    "bytes of a file of reference vectors": reference_vectors.MAX_BYTES,
    "steps of a tokenizer's": tokenizer_limits._MAX_STEPS,
    "characters of a regular expression": pattern_limits._MAX_LENGTH,
    "added tokens of a tokenizer": tokenizer_limits._MAX_ADDED_TOKENS,
    "characters of a word": tokenizer_limits._MAX_WORD,
    "bytes of a `candidates.json`": files._MAX_MANIFEST_BYTES,
    "bytes of a candidate's text": files._MAX_LINE_BYTES,
    "deviation of a candidate's vector": files._LENGTH_TOLERANCE,
    "bytes of the first line of a resume file": journal._MAX_HEADER_BYTES,
    "threads": load._MAX_THREADS,
}


def test_the_page_has_the_limits_of_the_code() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("\n## Limits\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| (.+) \| ([\d.,]+) \|$", section, re.MULTILINE))
    shown = {start: value for start in LIMITS for name, value in rows.items() if name.startswith(start)}
    assert shown == {start: f"{value:,}" for start, value in LIMITS.items()}
    assert len(rows) == len(LIMITS)


def test_the_command_line_has_the_limit_of_threads() -> None:
    assert options._MAX_THREADS == load._MAX_THREADS


def test_the_page_has_the_readers_and_limits_of_the_fuzzer() -> None:
    from fuzz import run

    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"valid files of {len(run.READERS)} kinds" in page
    assert f"time ({run.TIME_LIMIT:g} s)" in page
    assert f"memory ({run.RESIDENT_LIMIT // 10**6} MB resident)" in page
