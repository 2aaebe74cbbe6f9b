"""Search with one matcher, scores of another."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from tiny import write_tiny_matcher

from flipkd_sdk import Matcher
from flipkd_sdk.cli.main import cli
from flipkd_sdk.runtimes.linkage.dedupe import dedupe
from flipkd_sdk.runtimes.linkage.link import link

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


A = ["reset my PIN", "a lost card", "", "reset my PIN", "fee abroad"]
B = ["How do I reset my card PIN?", "reset my PIN", "A lost card", "   ", "Top up", "reset my PIN"]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A matcher of other weights and another dimension."""
    return write_tiny_matcher(tmp_path_factory.mktemp("other") / "matcher", dimension=10, seed=5)


@pytest.fixture
def matcher(tiny_matcher: Path) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, precision="fp32", device="cpu") as opened:
        yield opened


@pytest.fixture
def search(other: Path) -> Iterator[Matcher]:
    with Matcher.load(other, precision="fp32", device="cpu") as opened:
        yield opened


def test_all_scores_are_the_deciding_matchers(matcher: Matcher, search: Matcher) -> None:
    found = link(matcher, A, B, threshold=1e-3, top_k=len(B), search_with=search)
    assert len(found.a)
    expected = [matcher.score(A[a], B[b]) for a, b in zip(found.a, found.b, strict=True)]
    assert found.score == pytest.approx(expected, abs=1e-6)


def test_with_enough_neighbours_and_no_floor_nothing_is_missed(matcher: Matcher, search: Matcher) -> None:
    alone = link(matcher, A, B, threshold=0.0, top_k=3, neighbours=len(B))
    both = link(matcher, A, B, threshold=0.0, top_k=3, neighbours=len(B), search_with=search)
    assert both.a.tolist() == alone.a.tolist()
    assert both.score == pytest.approx(alone.score, abs=1e-6)


def test_what_is_not_proposed_is_never_encoded_by_the_deciding_matcher(
    matcher: Matcher, search: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = matcher.scorer.encode_pairs

    def spied(distinct, *arguments, **options):
        seen.extend(distinct.texts)
        return real(distinct, *arguments, **options)

    monkeypatch.setattr(matcher.scorer, "encode_pairs", spied)
    link(matcher, A, B, threshold=0.5, neighbours=1, search_with=search)
    assert not {"", "   "} & set(seen)
    assert len(set(seen)) < len(set(A + B))


def test_groups_with_two_matchers_are_of_rows_that_match(matcher: Matcher, search: Matcher) -> None:
    groups = dedupe(matcher, [*A, *B], threshold=0.5, search_with=search)
    assert groups.canonical[0] == groups.canonical[3], "equal texts are one group"
    texts = [*A, *B]
    for row, (canonical, score) in enumerate(zip(groups.canonical.tolist(), groups.score.tolist(), strict=True)):
        if texts[row] != texts[canonical]:
            assert score == pytest.approx(matcher.score(texts[row], texts[canonical]), abs=1e-6)


def test_ranking_returns_the_deciding_matchers_scores_best_first(matcher: Matcher, search: Matcher) -> None:
    candidates = search.candidates(B).decided_by(matcher)
    for query in ("my PIN", ""):
        found = candidates.rank(query, top_k=3, rescore=len(B))
        assert [match.index for match in found] == [match.index for match in matcher.rank(query, B, top_k=3)]
        expected = [matcher.score(query, match.text) for match in found]
        assert [match.score for match in found] == pytest.approx(expected, abs=1e-6)


def test_a_ranking_alone_equals_one_of_many_queries(matcher: Matcher, search: Matcher) -> None:
    candidates = search.candidates(B).decided_by(matcher)
    together = list(candidates.rank_many(A, top_k=2, rescore=3))
    assert together == [candidates.rank(query, top_k=2, rescore=3) for query in A]


def test_the_cutoff_is_one_of_the_deciding_matchers_scores(matcher: Matcher, search: Matcher) -> None:
    candidates = search.candidates(B).decided_by(matcher)
    scores = [match.score for match in candidates.rank("my PIN", rescore=len(B))]
    kept = candidates.rank("my PIN", score_cutoff=scores[1], rescore=len(B))
    assert [match.score for match in kept] == scores[:2]


def test_appended_texts_stay_out_of_the_set_that_was_copied(matcher: Matcher, search: Matcher) -> None:
    first = search.candidates(B)
    second = first.decided_by(matcher)
    first.append(["a new one"])
    assert (len(first), len(second)) == (len(B) + 1, len(B))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, texts in (("a", A), ("b", B)):
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["text", "id"], *([text, f"{name}{i}"] for i, text in enumerate(texts))])
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)], prog_name="flipkd")


def scores_of(path: Path, a: str, b: str) -> tuple[list[tuple[str, str]], list[float]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [(row[a], row[b]) for row in rows], [float(row["score"]) for row in rows]


def check(matcher: Path, pairs: list[tuple[str, str]], scores: list[float]) -> None:
    with Matcher.load(matcher, device="cpu") as opened:
        assert scores == pytest.approx(opened.score_pairs(pairs).tolist(), abs=2e-6)


def test_the_commands_write_the_deciding_matchers_scores(folder: Path, tiny_matcher: Path, other: Path) -> None:
    a, b, out = folder / "a.csv", folder / "b.csv", folder / "out.csv"
    done = run("link", tiny_matcher, a, b, "--search-with", other, "--threshold", "0.01", "--out", out)
    assert done.exit_code == 0, done.output
    check(tiny_matcher, *scores_of(out, "text", "b_text"))
    done = run("rank", tiny_matcher, a, b, "--search-with", other, "--top-k", "2", "--out", out, "--overwrite")
    assert done.exit_code == 0, done.output
    check(tiny_matcher, *scores_of(out, "text", "candidate"))
    done = run("dedupe", tiny_matcher, b, "--search-with", other, "--out", folder / "groups.csv", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"] == len(B)


def test_candidates_of_the_searching_matcher_are_saved_for_it(folder: Path, tiny_matcher: Path, other: Path) -> None:
    a, b, kept = folder / "a.csv", folder / "b.csv", folder / "kept"
    first = run("rank", tiny_matcher, a, b, "--search-with", other, "--save-candidates", kept)
    again = run("rank", tiny_matcher, a, kept, "--search-with", other)
    assert (first.exit_code, again.exit_code) == (0, 0), again.output
    assert [row[:6] for row in csv.reader(io.StringIO(again.stdout))] == [
        row[:6] for row in csv.reader(io.StringIO(first.stdout))
    ]
    refused = run("rank", tiny_matcher, a, kept)
    assert refused.exit_code == 1
    assert "made by another model" in refused.stderr


def test_wrong_uses_are_one_line(folder: Path, tiny_matcher: Path) -> None:
    a, b = folder / "a.csv", folder / "b.csv"
    missing = run("link", tiny_matcher, a, b, "--search-with", folder / "none", "--out", folder / "o.csv")
    assert missing.exit_code == 1
    assert f"{folder / 'none'}: no such directory" in missing.stderr
    ray = run("link", tiny_matcher, a, b, "--search-with", tiny_matcher, "--engine", "ray", "--out", folder / "o.csv")
    assert ray.exit_code == 2
    assert "--search-with is for --engine local" in ray.stderr


def test_a_resumed_run_with_another_search_is_refused(folder: Path, tiny_matcher: Path, other: Path) -> None:
    from flipkd_sdk.cli.linkage.local_engine import LocalTableEngine

    with Matcher.load(tiny_matcher) as deep, Matcher.load(other) as search:
        alone = LocalTableEngine(deep, on_blank="zero").identity
        both = LocalTableEngine(deep, search, on_blank="zero").identity
    assert alone != both
