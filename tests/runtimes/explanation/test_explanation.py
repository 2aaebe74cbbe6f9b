"""Explanations: contributions of words add up to the cosine, in every precision and for any text."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TEXTS, replace_model, tiny_model, write_manifest, write_tiny_matcher

from flipkd_sdk import Matcher
from flipkd_sdk.artifact.manifest import read_manifest
from flipkd_sdk.errors import ConfigError, InvalidTextError, MatcherClosedError, TextTooLongError
from flipkd_sdk.evaluation.cosines import pair_cosines
from flipkd_sdk.runtimes.explanation import explainer
from flipkd_sdk.runtimes.explanation.graph import token_parts
from flipkd_sdk.runtimes.explanation.words import words_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTILE = "<script>alert('x')</script> & \"q\" \u202e\x00\ud800"


@pytest.fixture(scope="module", params=["fp32", "int8"])
def matcher(tiny_matcher: Path, request: pytest.FixtureRequest) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, precision=request.param, on_truncate="ignore", device="cpu") as opened:
        yield opened


def cosine(matcher: Matcher, a: str, b: str) -> float:
    return float(pair_cosines(matcher.encode([a, b]), np.array([0]), np.array([1]))[0])


def test_first_calls_at_once_open_one_session(tiny_matcher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    open_session = explainer.open_session

    def count(*arguments: Any, **options: Any) -> Any:
        opened.append(arguments)
        return open_session(*arguments, **options)

    monkeypatch.setattr(explainer, "open_session", count)
    with Matcher.load(tiny_matcher, device="cpu") as matcher, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: matcher.explain(TEXTS[0], TEXTS[1]).cosine, range(8)))
    assert len(opened) == 1
    assert len(set(found)) == 1


def test_contributions_and_baseline_add_up_to_the_matchers_cosine(matcher: Matcher) -> None:
    background = matcher.encode(TEXTS).mean(axis=0)
    for a, b in zip(TEXTS, [*TEXTS[3:], *TEXTS[:3]], strict=True):
        for mean in (None, background):
            found = matcher.explain(a, b, background=mean)
            assert found.contributions.shape == (len(found.words_a), len(found.words_b))
            assert found.baseline + found.contributions.sum() == pytest.approx(cosine(matcher, a, b), abs=1e-6)
            assert found.cosine == pytest.approx(cosine(matcher, a, b), abs=1e-6)
            assert found.score == pytest.approx(matcher.score(a, b), abs=1e-6)
            assert (found.baseline == 0) is (mean is None)


@settings(max_examples=20)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_two_texts_are_explained(tiny_matcher: Path, a: str, b: str) -> None:
    global shared
    shared = shared or Matcher.load(tiny_matcher, precision="fp32", on_truncate="ignore", device="cpu")
    found = shared.explain(a, b)
    assert found.contributions.sum() == pytest.approx(found.cosine, abs=1e-6)
    for text, words in ((a, found.words_a), (b, found.words_b)):
        assert all(word.text == text[word.start : word.end] for word in words)
        assert [word.start for word in words] == sorted(word.start for word in words)
        # Every character that the matcher has read, but white space, is in a word.
        read = {place for word in words for place in range(word.start, word.end)}
        last = max(read, default=-1)
        assert all(place in read or not text[place].strip() for place in range(last + 1) if text[place].isalnum())


shared: Matcher | None = None


def test_swapping_the_texts_transposes_the_contributions(matcher: Matcher) -> None:
    forward, backward = matcher.explain(TEXTS[0], TEXTS[1]), matcher.explain(TEXTS[1], TEXTS[0])
    np.testing.assert_allclose(forward.contributions, backward.contributions.T, atol=1e-9)
    assert forward.score == pytest.approx(backward.score, abs=1e-6)


def test_the_background_takes_over_what_both_texts_share_with_it(matcher: Matcher) -> None:
    vector = matcher.encode([TEXTS[0]])[0]
    found = matcher.explain(TEXTS[0], TEXTS[0], background=vector)
    assert found.baseline == pytest.approx(1, abs=1e-5)
    assert np.abs(found.contributions.sum()) < 1e-5


@pytest.mark.parametrize("background", [np.zeros(3), np.full(16, np.nan), np.zeros((2, 16))])
def test_a_background_of_another_form_is_refused(matcher: Matcher, background: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"background must be a finite vector of 16 numbers"):
        matcher.explain("a", "b", background=background)


def test_scoring_opens_no_second_session(tiny_matcher: Path) -> None:
    with Matcher.load(tiny_matcher, device="cpu") as matcher:
        matcher.score_pairs([("a", "b")])
        assert matcher._explainer is None
        matcher.explain("a", "b")
        explainer = matcher._explainer
        matcher.explain("c", "d")
        assert matcher._explainer is explainer


def test_an_explanation_has_frozen_fields_and_goes_into_json(matcher: Matcher) -> None:
    found = matcher.explain("Top up", HOSTILE)
    with pytest.raises(FrozenInstanceError):
        found.score = 1.0  # type: ignore[misc]
    content = found.to_dict()
    assert content["words_a"][0] == {"text": "Top", "start": 0, "end": 3}
    assert np.shape(content["contributions"]) == found.contributions.shape
    assert content["alignment"] is None


def test_wrong_texts_and_closed_matchers_are_errors(tiny_matcher: Path) -> None:
    with Matcher.load(tiny_matcher, on_truncate="error", device="cpu") as matcher:
        with pytest.raises(InvalidTextError, match="second text"):
            matcher.explain("a", None)  # type: ignore[arg-type]
        with pytest.raises(TextTooLongError, match="first text"):
            matcher.explain("word " * 500, "b")
    with pytest.raises(MatcherClosedError):
        matcher.explain("a", "b")


def test_a_pickled_matcher_explains(matcher: Matcher) -> None:
    expected = matcher.explain(TEXTS[0], TEXTS[1])
    with pickle.loads(pickle.dumps(matcher)) as copy:  # noqa: S301 - our own bytes
        np.testing.assert_array_equal(copy.explain(TEXTS[0], TEXTS[1]).contributions, expected.contributions)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_explains(matcher: Matcher) -> None:
    matcher.explain("a", "b")
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if matcher.explain("a", "b").contributions.size else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_pooling_by_the_last_token_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = write_tiny_matcher(tmp_path / "last")
    manifest = read_manifest(path)
    write_manifest(path, replace(manifest, encoder=replace(manifest.encoder, pooling="last")))
    with (
        Matcher.load(path, device="cpu") as matcher,
        pytest.raises(ConfigError, match="train with pooling = 'mean'"),
    ):
        matcher.explain("a", "b")


def test_a_graph_that_is_no_mean_of_its_tokens_is_refused(tmp_path: Path) -> None:
    import onnx

    model = onnx.load_from_string(tiny_model(vocabulary=340, dimension=16))
    (projection,) = (node for node in model.graph.node if node.output[0] == "z")
    projection.output[0] = "bent"
    model.graph.node.insert(len(model.graph.node) - 1, onnx.helper.make_node("Tanh", ["bent"], ["z"]))
    path = write_tiny_matcher(tmp_path / "bent")
    replace_model(path, model.SerializeToString())
    with Matcher.load(path, device="cpu") as matcher:
        assert 0 <= matcher.score("a", "b") <= 1
        with pytest.raises(ConfigError, match=r"is not the sum of its tokens.*export it again"):
            matcher.explain("a", "b")


@pytest.mark.parametrize("output", ["sentence_embedding", "z", "mean", "sum"])
def test_a_graph_of_another_form_has_no_token_parts(output: str) -> None:
    import onnx

    model = onnx.load_from_string(tiny_model(vocabulary=340, dimension=16))
    for node in model.graph.node:
        node.op_type = "Identity" if output in node.output and node.op_type != "ReduceSum" else node.op_type
        node.op_type = "ReduceMax" if output in node.output and node.op_type == "ReduceSum" else node.op_type
    content = model.SerializeToString()
    assert (token_parts(content) is None) is (output in ("sum", "mean", "z"))


@pytest.mark.parametrize(
    ("text", "spans", "words"),
    [
        ("resets it", [(0, 5), (5, 6), (6, 9)], ["resets", "it"]),
        ("can't", [(0, 3), (3, 5)], ["can't"]),
        ("a-b", [(0, 1), (1, 2), (2, 3)], ["a", "-", "b"]),
        ("重置", [(0, 1), (1, 2)], ["重", "置"]),
        ("重", [(0, 1), (0, 1), (0, 1)], ["重"]),
        ("안녕", [(0, 1), (1, 2)], ["안녕"]),
        ("x  ", [(0, 0), (0, 1), (1, 3), (0, 0)], ["x"]),
        (" a b", [(0, 1), (1, 2), (2, 4)], ["a", "b"]),
        ("", [(0, 0)], [""]),
    ],
)
def test_tokens_become_words(text: str, spans: list[tuple[int, int]], words: list[str]) -> None:
    found, starts = words_of(text, spans)
    assert [word.text for word in found] == words
    assert starts[0] == 0
    assert len(starts) == len(words)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.content = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") or name in ("src", "href", "style") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.content += data


def test_the_fragment_escapes_texts_and_shows_them_whole(matcher: Matcher) -> None:
    long = "card " * 100
    found = matcher.explain(HOSTILE, long)
    for html in (found.to_html(styled=False), found._repr_html_()):
        read = Tags()
        read.feed(html)
        assert "script" not in read.tags
        assert "alert('x')" in read.content
        assert long.strip() in read.content
    assert "<style>" not in found.to_html(styled=False)
    assert "\ud800" not in found.to_html()


def test_the_line_names_the_strongest_pairs_first(matcher: Matcher) -> None:
    found = matcher.explain("reset my PIN", "reset my PIN")
    values = [abs(pair.contribution) for pair in found.strongest(4)]
    assert values == sorted(values, reverse=True)
    best = found.strongest(1)[0]
    first = f"{found.words_a[best.a].text} ~ {found.words_b[best.b].text} {best.contribution:+.3f}"
    assert found.to_text(2).startswith(first)
    assert found.to_text(2).count("~") == 2


def test_the_representation_is_one_short_line(tiny_matcher: Path) -> None:
    with Matcher.load(tiny_matcher) as matcher:
        shown = repr(matcher.explain("card lost", "lost card"))
    assert shown.startswith("<Explanation 'card lost' · 'lost card': score=") and "\n" not in shown and len(shown) < 120
