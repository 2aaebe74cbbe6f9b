"""The JavaScript module scores what `Matcher` scores, and refuses what it refuses."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from node_process import Node, NodeError
from tiny import TEXTS, add_self_test, write_tiny_matcher
from tiny_head import NEGATORS, NUMBER_WORDS, write_headed_matcher

from flipkd_sdk import Matcher
from flipkd_sdk.pair_head.cues import CUES, CueReader, pair_cues

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAIRS = [(a, b) for a in TEXTS for b in TEXTS[:4]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_tiny_matcher(tmp_path_factory.mktemp("matcher"), precisions=("fp32", "int8"))
    add_self_test(path)
    return path


@pytest.fixture(scope="module")
def with_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_headed_matcher(tmp_path_factory.mktemp("headed"))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_scores_and_vectors_are_those_of_python(node: Node, plain: Path, precision: str) -> None:
    with Matcher.load(plain, precision=precision, on_truncate="ignore") as matcher:
        found = node.ask("scorePairs", PAIRS, load=plain, precision=precision, onTruncate="ignore")
        assert np.abs(np.array(found) - matcher.score_pairs(PAIRS)).max() <= 1e-5
        vectors = node.ask("encode", TEXTS, load=plain, precision=precision, onTruncate="ignore")
        assert np.abs(np.array(vectors) - matcher.encode(TEXTS)).max() <= 1e-5
        assert node.ask("threshold", load=plain, precision=precision, onTruncate="ignore") == matcher.threshold


def test_the_head_decides_as_in_python(node: Node, with_head: Path) -> None:
    pairs = [*PAIRS, ("Pay 1,000.50 EUR!", "pay 1000.5 eur"), ("top up 20", "top up 30"), ("Top-up!", "top up")]
    pairs += [("pay five hundred", "never pay 500"), ("ask Anna in Paris", "ask Paris in Anna"), ("不想 pay", "pay")]
    with Matcher.load(with_head, on_truncate="ignore") as matcher:
        expected = matcher.score_pairs(pairs)
        assert np.ptp(expected[expected > 0]) > 0.01
        found = node.ask("scorePairs", pairs, load=with_head, onTruncate="ignore")
        assert np.abs(np.array(found) - expected).max() <= 1e-4
        reverse = node.ask("scorePairs", [pair[::-1] for pair in pairs], load=with_head, onTruncate="ignore")
        assert reverse == found
        without = node.ask("scorePairs", pairs, load=with_head, onTruncate="ignore", head=False)
    with Matcher.load(with_head, on_truncate="ignore", head=False) as matcher:
        assert np.abs(np.array(without) - matcher.score_pairs(pairs)).max() <= 1e-5


@pytest.mark.parametrize("options", [{}, {"topK": 2}, {"topK": 2, "rescore": 0}, {"scoreCutoff": 0.5}])
@pytest.mark.parametrize("kind", ["plain", "with_head"])
def test_a_ranking_is_that_of_python(
    node: Node, request: pytest.FixtureRequest, kind: str, options: dict[str, Any]
) -> None:
    path: Path = request.getfixturevalue(kind)
    names = {"topK": "top_k", "scoreCutoff": "score_cutoff", "rescore": "rescore"}
    with Matcher.load(path, precision="fp32", on_truncate="ignore") as matcher:
        expected = matcher.rank("my card PIN", TEXTS, **{names[name]: value for name, value in options.items()})
    found = node.ask("rank", "my card PIN", TEXTS, options, load=path, precision="fp32", onTruncate="ignore")
    assert [(match["index"], match["text"]) for match in found] == [(match.index, match.text) for match in expected]
    assert [match["score"] for match in found] == pytest.approx([match.score for match in expected], abs=1e-4)


def test_blank_texts_score_zero_unless_asked_for(node: Node, plain: Path) -> None:
    blank = ["", " ", "\u2003\n", "\x1c\x85"]
    pairs = [(text, "top up") for text in blank]
    assert node.ask("scorePairs", pairs, load=plain) == [0] * 4
    assert min(node.ask("scorePairs", pairs, load=plain, onBlank="score")) > 0
    assert node.ask("isMatch", "", "", load=plain) is False
    # White space for JavaScript, but a character for Python.
    with Matcher.load(plain) as matcher:
        assert node.ask("score", "\ufeff", "top up", load=plain) == pytest.approx(matcher.score("\ufeff", "top up"))


CUE_TEXTS = (
    *("Straße 12", "STRASSE 12", "Pay 1,000.50 EUR", "pay 1.000,50 eur", "007", "7", "3.10", "3.1", "ΟΔΟΣ", "οδος"),
    *(
        "²",
        "2",
        "１２３",
        "123",
        "a_b",
        "ab",
        "100 000",
        "100\u202f000",
        "x>3",
        "x=3",
        "İstanbul",
        "istanbul",
        "ﬁne",
        "FINE",
    ),
    *(
        "two thousand five hundred and twenty one",
        "2521",
        "2.5 million",
        "2500000",
        "half a thousand",
        "one",
        "twenty twenty",
    ),
    *(
        "I don’t pay",
        "I never pay",
        "not never",
        "不想关闭",
        "I’m Anna from Köln",
        "from Anna in Köln",
        "MÜLLER GMBH",
        "Müller GmbH",
    ),
    *(
        "How Do I Block My Lost Card",
        "a b c",
        "c b a",
        "\u0663\u0664 cards",
        "34 cards",
        "",
        "New York. Paris",
        "hundred hundred",
    ),
)


@pytest.mark.parametrize("one", CUE_TEXTS)
def test_cues_are_those_of_python(node: Node, one: str) -> None:
    read = CueReader(NEGATORS, NUMBER_WORDS)
    for other in CUE_TEXTS:
        expected = pair_cues([read(one)], [read(other)])[0].tolist()
        assert len(expected) == CUES
        assert node.ask("cues", one, other, NEGATORS, list(NUMBER_WORDS.items())) == expected, other


def test_drawn_texts_have_the_cues_of_python(node: Node) -> None:
    pieces = [
        *CUE_TEXTS,
        *NEGATORS,
        *NUMBER_WORDS,
        "and",
        "1,000",
        "0.5",
        "12",
        "Anna",
        "I",
        ".",
        "'",
        "’",
        "\n",
        "(",
        "é",
    ]
    random = np.random.default_rng(7)
    texts = [" ".join(random.choice(pieces, random.integers(1, 6))) for _ in range(300)]
    read = CueReader(NEGATORS, NUMBER_WORDS)
    for one, other in pairwise(texts):
        expected = pair_cues([read(one)], [read(other)])[0].tolist()
        assert node.ask("cues", one, other, NEGATORS, list(NUMBER_WORDS.items())) == expected, (one, other)


def test_two_loads_at_once_and_two_calls_at_once(node: Node, plain: Path) -> None:
    first, second, third = node.ask("twice", plain)
    assert first == second == third


def test_a_vector_does_not_depend_on_its_batch(node: Node, plain: Path) -> None:
    together = np.array(node.ask("encode", TEXTS, load=plain, onTruncate="ignore"))
    alone = np.array([node.ask("encode", [text], load=plain, onTruncate="ignore")[0] for text in TEXTS])
    assert np.abs(together - alone).max() <= 1e-6


def _manifest(**changes: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps(content | changes))

    return change


def _file(name: str, content: bytes | None) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        if content is None:
            (path / name).unlink()
        else:
            (path / name).write_bytes(content)

    return change


def _one_bit(path: Path) -> None:
    content = bytearray((path / "model_fp32.onnx").read_bytes())
    content[-9] ^= 1
    (path / "model_fp32.onnx").write_bytes(content)


def _other_vectors(path: Path) -> None:
    add_self_test(path, vectors={"fp32": np.eye(8, 16, dtype=np.float32)})


DAMAGE = {
    "no directory": (shutil.rmtree, "missing-file"),
    "no manifest": (_file("manifest.json", None), "missing-file"),
    "no JSON": (_file("manifest.json", b"{"), "malformed"),
    "no object": (_file("manifest.json", b"[1]"), "malformed"),
    "newer": (_manifest(format_version=99), "unsupported-format"),
    "no version": (_manifest(format_version="1"), "malformed"),
    "other scores": (_manifest(scoring_version=9), "unsupported-format"),
    "no variants": (_manifest(variants={}), "malformed"),
    "no calibration": (_manifest(calibration={"slope": 0, "intercept": 0, "threshold": 0}), "malformed"),
    "file elsewhere": (
        _manifest(variants={"fp32": {"file": "../model.onnx", "bytes": 3, "sha256": ""}}),
        "malformed",
    ),
    "no model": (_file("model_fp32.onnx", None), "missing-file"),
    "cut short": (_file("model_fp32.onnx", b"short"), "changed-file"),
    "changed": (_one_bit, "changed-file"),
    "changed tokenizer": (_file("tokenizer.json", b"{}"), "changed-file"),
    "other vectors": (_other_vectors, "other-vectors"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_directory_is_one_clear_error(node: Node, tmp_path: Path, case: str) -> None:
    damage, code = DAMAGE[case]
    path = write_tiny_matcher(tmp_path / "m")
    damage(path)
    with pytest.raises(NodeError, match=rf"^{code}: "):
        node.ask("score", "a", "b", load=path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "no-variant: .* it has: fp32, int8"),
        ({"device": "cuda"}, "invalid-option: unknown option device"),
        ({"onBlank": "skip"}, "invalid-option: onBlank must be zero or score"),
        ({"threads": 0}, "invalid-option: threads"),
    ],
)
def test_options_are_checked(node: Node, plain: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(NodeError, match=message):
        node.ask("score", "a", "b", load=plain, **options)


@pytest.mark.parametrize(
    ("call", "args", "message"),
    [
        ("score", ["a", None], "pair 0, second text: expected a string, found null"),
        ("scorePairs", [[["a", "b"], ["c"]]], "pair 1: expected two texts"),
        ("encode", ["text"], "expected a list of texts"),
        ("encode", [["a", 7]], "text 1: expected a string, found number"),
        ("rank", ["a", ["b"], {"topK": 0}], "topK must be an integer"),
    ],
)
def test_texts_are_checked(node: Node, plain: Path, call: str, args: list[Any], message: str) -> None:
    with pytest.raises(NodeError, match=message):
        node.ask(call, *args, load=plain)


def test_long_texts_are_refused_on_request(node: Node, plain: Path) -> None:
    with pytest.raises(NodeError, match="too-long: pair 0, first text: longer than the 32 tokens"):
        node.ask("score", "word " * 99, "b", load=plain, onTruncate="error")


def test_no_webassembly_and_a_closed_matcher_are_one_clear_error(node: Node, plain: Path) -> None:
    with pytest.raises(NodeError, match="no-webassembly: "):
        node.ask("withoutWebAssembly", plain)
    with pytest.raises(NodeError, match="closed: "):
        node.ask("closed", plain)


@pytest.fixture(scope="module")
def server(plain: Path) -> Iterator[str]:
    """Serve the tiny matcher; below /cut/ the body of a model breaks off."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(plain))

        def do_GET(self) -> None:
            if not self.path.startswith("/cut/"):
                return super().do_GET()
            content = (plain / self.path.removeprefix("/cut/")).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if self.path.endswith(".onnx") else content)
            return None

        def log_message(self, *_: object) -> None:
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_directory_is_loaded_by_url(node: Node, plain: Path, server: str) -> None:
    assert node.ask("score", "card", "my card", load=f"{server}/") == node.ask("score", "card", "my card", load=plain)


def test_a_fetch_that_breaks_off_is_one_clear_error(node: Node, server: str) -> None:
    with pytest.raises(NodeError, match=r"^fetch-failed: .*could not be fetched whole"):
        node.ask("score", "a", "b", load=f"{server}/cut")
    with pytest.raises(NodeError, match=r"^missing-file: .*HTTP status 404"):
        node.ask("score", "a", "b", load=f"{server}/absent/")
    with pytest.raises(NodeError, match="AbortError"):
        node.ask("abort", f"{server}/")
