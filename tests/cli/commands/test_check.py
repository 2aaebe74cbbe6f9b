from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from flipkd_sdk import Matcher
from flipkd_sdk.cli.main import cli
from flipkd_sdk.contrast import contrast_pairs, load_pack
from flipkd_sdk.evaluation.behaviour import check_behaviour

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXTS = [
    f"How can I send {n} EUR to my savings account in {month}?" for n in (20, 70, 500) for month in ("May", "July")
]
KINDS = "text_a,text_b,label,kind\n" + "".join(
    f"I pay {n} EUR,I pay {n} EUR,1,same\nI pay {n} EUR,my card,0,other\n" for n in range(10, 22)
)


@pytest.fixture
def check(tiny_matcher: Path) -> Callable[..., Result]:
    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(cli, ["check", str(tiny_matcher), *map(str, arguments), "--device", "cpu"])

    return run


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    path.write_text("id,question\n" + "".join(f"{i},{text}\n" for i, text in enumerate(TEXTS)), encoding="utf-8")
    return path


@pytest.fixture
def kinds(tmp_path: Path) -> Path:
    path = tmp_path / "kinds.csv"
    path.write_text(KINDS, encoding="utf-8")
    return path


def test_texts_are_checked_with_contrast_pairs_made_from_them(
    check: Callable[..., Result], tiny_matcher: Path, texts: Path
) -> None:
    done = check(texts, "--text-column", "question", "--per-kind", "5", "--seed", "3", "--json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    made = contrast_pairs(TEXTS, load_pack("en"), per_kind=5, seed=3)
    with Matcher.load(tiny_matcher, device="cpu") as matcher:
        expected = check_behaviour(made.pairs, matcher.score_pairs, threshold=matcher.threshold)
    assert {kind["kind"]: kind["passed"] for kind in result["kinds"]} == {k.kind: k.passed for k in expected.kinds}
    assert result["pairs"] == len(made) > 20
    assert result["origin"] == "made from 6 texts by the rules of en"


def test_pairs_with_kinds_are_scored_as_they_are(check: Callable[..., Result], kinds: Path) -> None:
    done = check(kinds, "--threshold", "0.95")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("24 pairs, read from the table; ")
    assert "threshold 0.9500" in done.stdout
    assert any(line.split()[:2] == ["same", "match"] and line.endswith("100.0%") for line in done.stdout.splitlines())


def test_labelled_matches_of_pairs_without_kinds_are_left_out(check: Callable[..., Result], tmp_path: Path) -> None:
    rows = [(text, text.replace("How can I", "How do I")) for text in TEXTS]
    made = contrast_pairs([text for row in rows for text in row], load_pack("en"), per_kind=1000, seed=0)
    amounts = [(pair.text_a, pair.text_b) for pair in made.pairs if pair.kind == "amount"]
    path = tmp_path / "pairs.csv"
    lines = [f"{a},{b},1\n" for a, b in amounts] + [f"{TEXTS[0]},my card,0\n"]
    path.write_text("text_a,text_b,label\n" + "".join(lines), encoding="utf-8")
    result = json.loads(check(path, "--json").stdout)
    assert "left out, which are labelled matches" in result["origin"]


def test_a_text_file_has_one_text_per_line(check: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    assert "made from 6 texts" in check(tmp_path / "texts.txt").stdout


def test_the_threshold_decides(check: Callable[..., Result], kinds: Path) -> None:
    passed = {}
    for threshold in ("0", "1"):
        result = json.loads(check(kinds, "--threshold", threshold, "--json").stdout)
        passed[threshold] = {kind["kind"]: kind["passed"] for kind in result["kinds"]}
    assert passed["0"] == {"same": 12, "other": 0}
    assert passed["1"] == {"same": 0, "other": 12}


def test_a_kind_below_the_limit_fails_the_command(check: Callable[..., Result], kinds: Path) -> None:
    arguments = [kinds, "--threshold", "0", "--min-pass-rate", "0.5"]
    done = check(*arguments)
    assert done.exit_code == 1
    assert done.stderr.endswith("pass rates below 0.5: other 0.000\n")
    assert done.stderr.count("\n") == 1
    assert json.loads(check(*arguments, "--json").stdout)["below_min_pass_rate"] == ["other"]
    assert check(kinds, "--threshold", "0", "--min-pass-rate", "0").exit_code == 0


def test_kinds_of_few_pairs_are_not_judged(check: Callable[..., Result], kinds: Path) -> None:
    few = KINDS + "a,b,1,few\n" * 9
    kinds.write_text(few, encoding="utf-8")
    assert check(kinds, "--threshold", "0.9", "--min-pass-rate", "0.1").exit_code == 0
    kinds.write_text(few + "a,b,1,few\n", encoding="utf-8")
    assert "few 0.000" in check(kinds, "--threshold", "0.9", "--min-pass-rate", "0.1").stderr


def test_a_limit_that_judges_nothing_fails(check: Callable[..., Result], kinds: Path) -> None:
    kinds.write_text("text_a,text_b,label,kind\na,a,1,same\n", encoding="utf-8")
    done = check(kinds, "--min-pass-rate", "0.5")
    assert done.exit_code == 1
    assert "no kind has the 10 pairs that --min-pass-rate needs" in done.stderr


def test_examples_are_limited_and_cannot_control_the_terminal(check: Callable[..., Result], kinds: Path) -> None:
    kinds.write_text(KINDS.replace("my card", "my \x1b[31mcard"), encoding="utf-8")
    shown = check(kinds, "--threshold", "0", "--examples", "2").stdout
    assert shown.count("card") == 2
    assert "\x1b" not in shown
    assert "card" not in check(kinds, "--threshold", "0", "--examples", "0").stdout


def test_a_pack_of_the_users_makes_the_pairs(check: Callable[..., Result], texts: Path, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('extends = "en"\nkinds_off = ["amount"]\n', encoding="utf-8")
    arguments = [texts, "--text-column", "question", "--json"]
    with_pack = json.loads(check(*arguments, "--pack", tmp_path / "own.toml").stdout)
    assert "amount" not in {kind["kind"] for kind in with_pack["kinds"]}
    assert "amount" in {kind["kind"] for kind in json.loads(check(*arguments, "--language", "en").stdout)["kinds"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no column 'text'"),
        (["--text-column", "question", "--pack", "absent.toml"], "absent.toml"),
        (["--text-column", "question", "--language", "xx"], "xx"),
    ],
)
def test_a_table_or_pack_that_cannot_be_used_is_one_line(
    check: Callable[..., Result], texts: Path, arguments: list[str], message: str
) -> None:
    done = check(texts, *arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unknown_language_is_reported_with_the_remedy(check: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("Wo ist meine Karte geblieben?\nIch habe sie verloren.\n", encoding="utf-8")
    done = check(tmp_path / "texts.txt")
    assert done.exit_code == 1
    assert "name one with --language (en, zh), or a language pack with --pack FILE" in done.stderr


def test_pairs_with_kinds_need_no_language(check: Callable[..., Result], kinds: Path) -> None:
    done = check(kinds, "--language", "en")
    assert done.exit_code == 1
    assert "leave out --language and --pack" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--threshold", "1.1"],
        ["--threshold", "-0.1"],
        ["--threshold", "nan"],
        ["--min-pass-rate", "nan"],
        ["--language", "en", "--pack", "own.toml"],
        ["--per-kind", "0"],
        ["--seed", "-1"],
    ],
)
def test_options_out_of_range_are_wrong_usage(check: Callable[..., Result], kinds: Path, arguments: list[str]) -> None:
    assert check(kinds, *arguments).exit_code == 2
