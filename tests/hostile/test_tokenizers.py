"""Tokenizer files made to blow texts up, to hang or to end the process: refused at load, or harmless."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tiny import tiny_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Json = dict[str, Any]

PLAIN: Json = json.loads(tiny_tokenizer().to_str())
CASES = """
import json, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from flipkd_sdk.errors import FlipKDError
from flipkd_sdk.artifact.manifest import TokenizerSpec
from flipkd_sdk.runtimes.encoding.tokenizer import load_tokenizer
spec = TokenizerSpec("tokenizer.json", "", 0, max_length=128, empty_token_id=1, special_tokens=())
words = ["five short words of text", "a" * 30_000, " " * 30_000 + "a", "\\ufdfa" * 30_000, "\\U0001f600" * 9_000]
words += ["<m>" * 9_000, "\\u95ee" * 9_000, "A b" * 9_000, "\\n \\n" * 9_000, "1" * 30_000]
for path in map(Path, sys.argv[1:]):
    found = "serves"
    try:
        tokenizer = load_tokenizer(path, spec)
        for text in words:
            assert 0 < len(tokenizer.encode([text])[0].ids) <= 128
    except FlipKDError as error:
        found = f"{type(error).__name__} {error}"
    print(json.dumps([path.name, found]), flush=True)
"""


def outcomes(directory: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Return by name what loading each tokenizer file and reading texts with it ends in.

    They are loaded one after another in a process with limits; if one ends it, it has no outcome, nor have those behind
    it.
    """
    names = {}
    for i, (name, content) in enumerate(files.items()):
        names[f"{i}.json"] = name
        (directory / f"{i}.json").write_text(content)
    paths = [str(directory / file) for file in names]
    done = subprocess.run(
        [sys.executable, "-c", CASES, *paths], capture_output=True, text=True, check=False, timeout=300
    )
    found = {names[file]: outcome for file, outcome in map(json.loads, done.stdout.splitlines())}
    first_missing = next((name for name in files if name not in found), None)
    assert first_missing is None, (first_missing, done.returncode, done.stderr[-2000:])
    return found


def sequence(inner: str, *steps: object) -> Json:
    return {"type": "Sequence", inner: list(steps)}


def normalizer(*steps: object) -> Json:
    return {**PLAIN, "normalizer": sequence("normalizers", *steps)}


def pre_tokenizer(*steps: object) -> Json:
    return {**PLAIN, "pre_tokenizer": sequence("pretokenizers", *steps)}


def split(pattern: str, behavior: str = "Isolated") -> Json:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


def replace(pattern: Json, content: str) -> Json:
    return {"type": "Replace", "pattern": pattern, "content": content}


def template(*pieces: str, tokens: Json | None = None) -> Json:
    single = [{"Sequence" if piece in "AB" else "SpecialToken": {"id": piece, "type_id": 0}} for piece in pieces]
    pair = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens or {}}


def nested(component: Json, key: str, depth: int) -> Json:
    for _ in range(depth):
        component = sequence(key, component)
    return component


def word_piece(limit: int) -> Json:
    vocabulary = {"[UNK]": 0, "</s>": 1, **{"a" * i: i + 1 for i in range(1, 3)}}
    return {
        **PLAIN,
        "pre_tokenizer": None,
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "",
            "max_input_chars_per_word": limit,
            "vocab": vocabulary,
        },
    }


def unigram(*entries: list[Any], **parameters: object) -> Json:
    model = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["</s>", 0.0], ["a", -1.0], *entries]}
    return {**PLAIN, "pre_tokenizer": None, "model": {**model, **parameters}}


def added(*contents: str, **flags: bool) -> Json:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {**PLAIN, "added_tokens": [{"id": 0, "content": content, **plain, **flags} for content in contents]}


def charsmap(*replacements: bytes, index: bytes = b"") -> Json:
    content = len(index).to_bytes(4, "little") + index + b"".join(text + b"\0" for text in replacements)
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}


def model(**parameters: object) -> Json:
    return {**PLAIN, "model": {**PLAIN["model"], **parameters}}


BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False}
PREFIX = {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": True}
BERT = {
    "type": "BertNormalizer",
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": True,
}
CLS = {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]}}
REFUSED: dict[str, tuple[Callable[[], Json], str]] = {
    "40 byte levels": (lambda: normalizer(*[{"type": "ByteLevel"}] * 40), "normalizer Sequence: 40 steps"),
    "3 byte levels": (lambda: normalizer(*[{"type": "ByteLevel"}] * 3), "normalizer: 3 steps of kind ByteLevel"),
    "40 byte levels and an added token": (
        lambda: {
            **added("aaaa", normalized=True),
            "normalizer": normalizer(*[{"type": "ByteLevel"}] * 40)["normalizer"],
        },
        "normalizer Sequence: 40 steps",
    ),
    "byte levels in nested sequences": (
        lambda: normalizer(*[sequence("normalizers", *[{"type": "ByteLevel"}] * 30)] * 30),
        "normalizer: 900 steps",
    ),
    "replacement of an empty regex": (lambda: normalizer(replace({"Regex": ""}, "aa")), "normalizer Replace: pattern"),
    "replacement of an empty text": (lambda: normalizer(replace({"String": ""}, "aa")), "normalizer Replace: pattern"),
    "replacement of a zero-width regex": (lambda: normalizer(replace({"Regex": "(?=a)"}, "aa")), "a form that is not"),
    "replacement of an optional regex": (lambda: normalizer(replace({"Regex": "a?"}, "aa")), "matches nothing at all"),
    "a long replacement": (lambda: normalizer(replace({"String": "a"}, "a" * 100)), "content: it has 100 characters"),
    "two growing replacements": (
        lambda: normalizer(*[replace({"String": "a"}, "a" * 4)] * 2),
        "several steps of kind Replace",
    ),
    "a growing replacement and a table": (
        lambda: normalizer(replace({"String": "a"}, "aa"), charsmap(b"x" * 36)),
        "Precompiled and Replace make texts longer",
    ),
    "a normal form and a table": (
        lambda: normalizer({"type": "NFKD"}, charsmap(b"x" * 36)),
        "NFKC/NFKD and Precompiled make texts longer",
    ),
    "a long prefix": (lambda: normalizer({"type": "Prepend", "prepend": "a" * 100}), "Prepend: prepend: it has 100"),
    "many prefixes": (lambda: normalizer(*[{"type": "Prepend", "prepend": "ab"}] * 3), "3 steps of kind Prepend"),
    "a regex that backtracks": (lambda: normalizer(replace({"Regex": "(a|a)*$"}, "b")), "normalizer Replace: pattern"),
    "a regex that takes long to compile": (
        lambda: pre_tokenizer(split("((((a{1000}){1000}){1000}){1000})")),
        "pre_tokenizer Split: pattern",
    ),
    "nested repetitions": (lambda: pre_tokenizer(split("(a+)+b")), "pre_tokenizer Split: pattern"),
    "repetitions in a row": (lambda: pre_tokenizer(split("a*a*a*b")), "beyond the text's length"),
    "a repetition before text": (lambda: pre_tokenizer(split("a*b")), "beyond the text's length"),
    "many optional parts": (lambda: pre_tokenizer(split("a?" * 30 + "a" * 30)), "beyond the text's length"),
    "a back reference": (lambda: pre_tokenizer(split(r"(a)\1")), "a form that is not accepted"),
    "a subexpression call": (lambda: pre_tokenizer(split(r"(?<n>a|b\g<n>c)")), "a form that is not accepted"),
    "a table of long replacements": (lambda: normalizer(charsmap(b"x" * 100)), "a replacement of 100 bytes"),
    "a table without an end": (
        lambda: normalizer({"type": "Precompiled", "precompiled_charsmap": "AAAAAHh4"}),
        "not a table",
    ),
    "a table that is not base64": (
        lambda: normalizer({"type": "Precompiled", "precompiled_charsmap": "%%"}),
        "not base64",
    ),
    "a template of 15 copies": (lambda: {**PLAIN, "post_processor": template(*"A" * 15)}, "exactly once"),
    "a template without the text": (lambda: {**PLAIN, "post_processor": template("[CLS]", tokens=CLS)}, "exactly once"),
    "a template of both texts": (lambda: {**PLAIN, "post_processor": template("A", "B")}, "more than one text"),
    "a template of many pieces": (
        lambda: {**PLAIN, "post_processor": template("A", *["[CLS]"] * 99, tokens=CLS)},
        "at most 16 pieces",
    ),
    "a special token of many ids": (
        lambda: {
            **PLAIN,
            "post_processor": template("A", tokens={"[CLS]": {"id": "[CLS]", "ids": [1] * 99, "tokens": ["x"] * 99}}),
        },
        "at most 16 ids",
    ),
    "templates in a sequence": (
        lambda: {**PLAIN, "post_processor": sequence("processors", *[template("A")] * 3)},
        "3 steps of kind TemplateProcessing",
    ),
    "prefixes between splits": (lambda: pre_tokenizer(*[split("."), PREFIX] * 8), "8 steps of kind Metaspace"),
    "byte levels in the pre-tokenizer": (lambda: pre_tokenizer(*[BYTES] * 2), "2 steps of kind ByteLevel"),
    "an unknown normalizer": (lambda: normalizer({"type": "Explode"}), "the kind 'Explode' is not accepted"),
    "a normalizer without a kind": (lambda: normalizer({"pattern": {"String": "a"}, "content": ""}), "the kind None"),
    "an unknown parameter": (lambda: normalizer({"type": "NFC", "times": 9}), "unknown parameter 'times'"),
    "a pre-tokenizer of fixed lengths": (lambda: pre_tokenizer({"type": "FixedLength", "length": 0}), "'FixedLength'"),
    "sequences nested deeply": (
        lambda: {**PLAIN, "normalizer": nested({"type": "NFC"}, "normalizers", 90)},
        "nested more than 4 deep",
    ),
    "WordPiece without a word limit": (lambda: word_piece(10**15), "max_input_chars_per_word 1000000000000000"),
    "WordPiece with a long limit": (lambda: word_piece(5000), "max_input_chars_per_word 5000"),
    "BPE that draws lots": (lambda: model(dropout=0.5), "at random"),
    "BPE with a long prefix": (
        lambda: model(continuing_subword_prefix="a" * 99, merges=[]),
        "continuing_subword_prefix has 99",
    ),
    "BPE with a long suffix": (lambda: model(end_of_word_suffix="a" * 99), "end_of_word_suffix has 99"),
    "Unigram with a long token": (lambda: unigram(["a" * 1000, -1.0]), "a token of 1000 characters"),
    "Unigram with a token of megabytes": (lambda: unigram(["a" * 30_000_000, -1.0]), "a token of 30000000 characters"),
    "Unigram with many long tokens": (
        lambda: unigram(*[[f"{i:05}" * 50, -1.0] for i in range(40_000)]),
        "bytes of tokens; at most",
    ),
    "Unigram with an endless score": (lambda: unigram(["b", -1e300]), "finite scores"),
    "Unigram with a text as score": (lambda: unigram(["b", "0"]), "finite scores"),
    "added tokens by the hundred thousand": (lambda: added(*map(str, range(100_000))), "100000 tokens; at most 32768"),
    "added tokens of megabytes": (lambda: added(*("a" * 100_000 + str(i) for i in range(9))), "characters in all"),
    "an added token without flags": (
        lambda: {**PLAIN, "added_tokens": [{"id": 0, "content": "x"}]},
        "a token without content, single_word",
    ),
    "two types of model": (lambda: {**PLAIN, "model": {"x": 0, **PLAIN["model"]}}, "first parameter must be its type"),
    "no model": (
        lambda: {name: value for name, value in PLAIN.items() if name != "model"},
        "no JSON object with a model",
    ),
}
HARMLESS: dict[str, Callable[[], Json]] = {
    "a Unigram of equal scores": lambda: unigram(*[["a" * i, 0.0] for i in range(2, 200)]),
    "a Unigram of extreme scores": lambda: unigram(["aa", 1e9], ["aaa", -1e9]),
    "a Unigram without an unknown token": lambda: unigram(unk_id=None),
    "a Unigram with an unknown token out of range": lambda: unigram(unk_id=99),
    "the longest words of WordPiece": lambda: word_piece(256),
    "an unknown token that is missing": lambda: {
        **word_piece(99),
        "model": {**word_piece(99)["model"], "unk_token": "?"},
    },
    "added tokens that strip": lambda: added("<m>", "</s>", lstrip=True, rstrip=True),
    "20,000 added tokens": lambda: added("</s>", *(f"<{i}>" for i in range(20_000)), normalized=True),
    "added tokens that are one after normalization": lambda: {
        **added("ABC", "abc", normalized=True),
        "normalizer": {"type": "Lowercase"},
    },
    "an empty added token": lambda: added(""),
    "the longest replacements of a table": lambda: normalizer(charsmap(b"x" * 36, index=bytes(1024))),
    "a table whose index points nowhere": lambda: normalizer(charsmap(b"x", index=b"\xff" * 1024)),
    "the largest growing replacement": lambda: normalizer(
        {"type": "BertNormalizer"}, replace({"Regex": "."}, "\U0001f600" * 4)
    ),
    "32 normal forms": lambda: normalizer(*[{"type": "NFKD"}, {"type": "NFC"}, {"type": "Lowercase"}] * 10),
    "32 replacements in a circle": lambda: normalizer(
        *[replace({"String": "a"}, "b"), replace({"String": "b"}, "a")] * 16
    ),
    "splits at every character": lambda: pre_tokenizer(*[split(".")] * 30, BYTES),
    "two prefixes between splits": lambda: pre_tokenizer(*[split("."), PREFIX] * 2, BYTES),
    "merges a hundred thousand times over": lambda: model(merges=PLAIN["model"]["merges"] * 1000),
    "merges of tokens that are missing": lambda: model(merges=[["no", "where"]]),
    "a token beyond the vocabulary": lambda: model(vocab={**PLAIN["model"]["vocab"], "zzz": (1 << 32) - 1}),
    "a negative token": lambda: model(vocab={**PLAIN["model"]["vocab"], "zzz": -1}),
    "an empty vocabulary": lambda: model(vocab={}, merges=[]),
    "another version": lambda: {**PLAIN, "version": "9"},
    "padding to a billion": lambda: {
        **PLAIN,
        "padding": {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": ""},
    },
    "a decoder that backtracks": lambda: {**PLAIN, "decoder": replace({"Regex": "(((a{1000}){1000}){1000})"}, "")},
    "lone surrogates": lambda: added("\ud800"),
}


_BODY = json.dumps(PLAIN).removesuffix("}")
TAILS = {
    "a second normalizer": _BODY
    + f', "normalizer": {json.dumps(sequence("normalizers", *[{"type": "ByteLevel"}] * 40))}}}',
    "an escaped key": _BODY + ', "\\u006eormalizer": {"type": "ByteLevel"}}',
    "another model": _BODY + f', "model": {json.dumps(word_piece(10**9)["model"])}}}',
    "an unknown key": _BODY + ', "more": 1}',
    "a brace": _BODY + "}}",
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    files = {name: json.dumps(make()) for name, (make, _) in REFUSED.items()}
    return outcomes(tmp_path_factory.mktemp("refused"), files | TAILS)


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return outcomes(tmp_path_factory.mktemp("harmless"), {name: json.dumps(make()) for name, make in HARMLESS.items()})


@pytest.mark.parametrize("attack", REFUSED)
def test_a_hostile_tokenizer_is_refused_by_the_name_of_its_component(attack: str, refused: dict[str, str]) -> None:
    assert refused[attack].startswith("MatcherDirectoryError /")
    assert REFUSED[attack][1] in refused[attack]


@pytest.mark.parametrize("tail", TAILS)
def test_nothing_may_follow_the_model(tail: str, refused: dict[str, str]) -> None:
    assert refused[tail].startswith("MatcherDirectoryError /")


@pytest.mark.parametrize("attack", HARMLESS)
def test_what_is_not_refused_stays_within_memory_and_time(attack: str, harmless: dict[str, str]) -> None:
    assert harmless[attack] == "serves" or harmless[attack].startswith(("MatcherDirectoryError", "ExecutionError"))
    assert "\n" not in harmless[attack]
