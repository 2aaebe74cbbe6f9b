# ruff: noqa: S106 - unk_token is no password
from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import TEXTS, tiny_tokenizer
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from flipkd_sdk.artifact.manifest import TokenizerSpec
from flipkd_sdk.errors import MatcherDirectoryError
from flipkd_sdk.runtimes.encoding.pattern_limits import refuse_slow_pattern
from flipkd_sdk.runtimes.encoding.tokenizer import TextTokenizer, load_tokenizer
from flipkd_sdk.runtimes.encoding.tokenizer_file import read_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPEC = TokenizerSpec("tokenizer.json", "", 0, max_length=8, empty_token_id=2, special_tokens=())
CAMEL = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}%]*[\p{Ll}\p{Lm}\p{Lo}\p{M}%]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}%]+[\p{Ll}\p{Lm}\p{Lo}\p{M}%]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "Llama 3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "Qwen": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+",
    "GPT-4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]"
    r"|\s+(?!\S)|\s+",
    "GPT-4o": CAMEL.replace("%", ""),
    "Kimi": r"[\p{Han}]+|" + CAMEL.replace("%", r"&&[^\p{Han}]"),
    "DeepSeek": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "BLOOM": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "CLIP": r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    "Falcon": "[0-9][0-9][0-9]",
    "T5": " {2,}",
    "one character": ".",
}


def charsmap(*replacements: bytes) -> bytes:
    """Return a table of SentencePiece whose index finds nothing."""
    return (1024).to_bytes(4, "little") + bytes(1024) + b"".join(text + b"\0" for text in replacements)


def byte_level(pattern: str | None = None) -> Tokenizer:
    tokenizer = tiny_tokenizer()
    if pattern:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(use_regex=False)])
    tokenizer.add_special_tokens(["<s>", "<|end of text|>"])
    return tokenizer


def smollm() -> Tokenizer:
    tokenizer = byte_level()
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer


def llama_2() -> Tokenizer:
    alphabet = {letter: i for i, letter in enumerate(["<unk>", "<s>", "</s>", *map(chr, range(33, 127)), "▁"])}
    tokenizer = Tokenizer(
        models.BPE(alphabet | {"▁c": 98, "ar": 99}, [("▁", "c"), ("a", "r")], unk_token="<unk>", fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def gemma() -> Tokenizer:
    tokenizer = llama_2()
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.add_tokens([AddedToken(f"<unused{i}>", normalized=False) for i in range(6000)])
    return tokenizer


def modern_bert() -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


def roberta() -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    return tokenizer


def bert() -> Tokenizer:
    vocabulary = {"<pad>": 0, "[UNK]": 1, "</s>": 2, "card": 3, "pin": 4, "##s": 5, "?": 6, "top": 7, "up": 8}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<pad>", 0))
    return tokenizer


def xlm_r() -> Tokenizer:
    vocabulary = [("<s>", 0.0), ("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.1), ("▁card", -7.25), ("a", -3.0), ("rd", -5.5)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=1))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(charsmap(b"x" * 33, b"y")),
            normalizers.Strip(),
            normalizers.Replace(Regex(" {2,}"), "▁"),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def word_level() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "</s>": 2, "card": 3}, unk_token="a"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation()])
    return tokenizer


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    **{name: lambda pattern=pattern: byte_level(pattern) for name, pattern in PATTERNS.items()},
    "SmolLM": smollm,
    "Llama 2": llama_2,
    "Gemma": gemma,
    "ModernBERT": modern_bert,
    "RoBERTa": roberta,
    "BERT": bert,
    "XLM-R": xlm_r,
    "a list of words": word_level,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_real_tokenizer_is_accepted_and_reads_as_tokenizers_itself_does(family: str, tmp_path: Path) -> None:
    tokenizer = FAMILIES[family]()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    itself = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    loaded = read_tokenizer(tmp_path / "tokenizer.json")
    for text in (*TEXTS, "It'll CARD CamelCase 12345\r\n\n  x <s>y<|end of text|> <mask>", "ﷺ \t é é"):
        expected, found = itself.encode(text), loaded.encode(text)
        assert (found.ids, found.offsets, found.word_ids) == (expected.ids, expected.offsets, expected.word_ids)
    assert loaded.get_vocab() == itself.get_vocab()
    assert load_tokenizer(tmp_path / "tokenizer.json", SPEC).encode(["card"])[0].ids.size > 0


@pytest.mark.parametrize("family", ["Llama 3", "XLM-R", "BERT"])
def test_a_file_in_another_order_reads_the_same(family: str, tmp_path: Path) -> None:
    content = json.loads(FAMILIES[family]().to_str())
    (tmp_path / "tokenizer.json").write_text(json.dumps(content, sort_keys=True))
    loaded = json.loads(read_tokenizer(tmp_path / "tokenizer.json").to_str())
    assert loaded == {**json.loads(Tokenizer.from_str(json.dumps(content)).to_str()), "decoder": None}


def test_a_token_called_model_does_not_mislead(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.add_tokens(['"model": {', '"model"', "model"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert read_tokenizer(tmp_path / "tokenizer.json").get_vocab() == tokenizer.get_vocab()


def change(tokenizer: dict[str, Any], **parts: object) -> bytes:
    return json.dumps({**tokenizer, **parts}).encode()


PLAIN: dict[str, Any] = json.loads(tiny_tokenizer().to_str())
MALFORMED = {
    "no JSON": b"{",
    "not UTF-8": b'{"model": "\xff"}',
    "UTF-16": json.dumps(PLAIN).encode("utf-16"),
    "a list": b"[]",
    "a key twice": b'{"added_tokens": [], "added_tokens": [], "model": {}}',
    "nested deeply": b'{"normalizer": ' + b"[" * 100_000,
    "a normalizer that is a list": change(PLAIN, normalizer=[]),
    "a step that is null": change(PLAIN, normalizer={"type": "Sequence", "normalizers": [None]}),
    "steps that are no list": change(PLAIN, normalizer={"type": "Sequence", "normalizers": {}}),
    "a flag that is a number": change(PLAIN, normalizer={"type": "Strip", "strip_left": 1, "strip_right": 0}),
    "a parameter too few": change(PLAIN, normalizer={"type": "Prepend"}),
    "a table cut short": change(
        PLAIN, normalizer={"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\xff").decode()}
    ),
    "a kind that is a number": change(PLAIN, pre_tokenizer={"type": 5}),
    "added tokens that are no list": change(PLAIN, added_tokens={}),
    "a model of an unknown kind": change(PLAIN, model={"type": "Neural"}),
    "a model without a vocabulary": change(PLAIN, model={"type": "BPE"}),
    "a model with two kinds": json.dumps(PLAIN).replace('"type": "BPE"', '"type": "BPE", "type": "Unigram"').encode(),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_file_is_refused_in_one_line_that_names_it(kind: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(MALFORMED[kind])
    with pytest.raises(MatcherDirectoryError, match=r"tokenizer\.json: ") as caught:
        load_tokenizer(tmp_path / "tokenizer.json", SPEC)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", PATTERNS)
def test_patterns_of_real_tokenizers_are_accepted(family: str) -> None:
    refuse_slow_pattern(PATTERNS[family])


SLOW = [
    "", "a*", "a?", "(a|a)*$", "(a+)+b", "a*b", "a*a*b", r"\s+$", r"\s*[\r\n]+", "a*b|x|a+c", "a+(?!b)", r"\s+(?!\S)a",
    "a?" * 7 + "a" * 7, "(a|a)(a|a)(a|a)b", "a{0,32}a{0,32}b", "a{1000}", "((a{30}){30}){30}", "(?:a+)b", "(a{20}){20}",
    "(?=a)", "(?<=a)b", r"(a)\1", r"(?<n>a)\g<n>", "(?~a)", "(?{x})", "(?i)a", r"\K", r"\bab", "^a", "a$", "a|", "|a",
    "a**", "a{1,2}+", "a+?b", "[", "[]", "[^]a]", "(", ")", "a)", "[\\", "x" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("pattern", SLOW, ids=lambda pattern: pattern[:20])
def test_a_pattern_that_can_be_slow_or_match_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="regular expression") as caught:
        refuse_slow_pattern(pattern)
    assert len(str(caught.value)) < 200


PARTS = st.sampled_from(
    ["a", "b", " ", "?", "*", "+", "|", "(", "(?:", "(?i:", ")", "[ab]", "[^a]", r"\s", "{2,}", "{1,3}", r"(?!\S)", "."]
)


@given(st.lists(PARTS, max_size=12).map("".join), st.text(st.sampled_from("ab \n"), max_size=40))
def test_an_accepted_pattern_splits_any_text_into_parts_that_make_it_up(pattern: str, text: str) -> None:
    try:
        refuse_slow_pattern(pattern)
    except ValueError:
        return
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    parts = [part for part, _ in split.pre_tokenize_str(text)]
    assert "".join(parts) == text
    assert all(parts)


def test_a_tokenizer_that_splits_at_random_is_refused(tmp_path: Path) -> None:
    content = json.loads(tiny_tokenizer().to_str())
    content["model"]["dropout"] = 0.5
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(MatcherDirectoryError, match="at random"):
        load_tokenizer(tmp_path / "tokenizer.json", SPEC)


def test_a_token_beyond_the_vocabulary_does_not_overflow() -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 4_000_000_000}, unk_token="a"))
    (found,) = TextTokenizer(tokenizer, max_length=8, empty_token_id=0).encode(["a"])
    assert found.ids.tolist() == [4_000_000_000]
