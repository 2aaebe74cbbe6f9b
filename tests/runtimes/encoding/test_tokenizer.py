from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TEXTS, tiny_tokenizer
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from flipkd_sdk.artifact.manifest import TokenizerSpec
from flipkd_sdk.errors import ExecutionError, MatcherDirectoryError
from flipkd_sdk.runtimes.encoding.tokenizer import TextTokenizer, load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

EMPTY = 2
SPEC = TokenizerSpec("tokenizer.json", "", 0, max_length=8, empty_token_id=EMPTY, special_tokens=())


def with_special_tokens(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


PLAIN = TextTokenizer(tiny_tokenizer(), max_length=8, empty_token_id=EMPTY)
FRAMED = TextTokenizer(with_special_tokens(tiny_tokenizer()), max_length=8, empty_token_id=EMPTY)
REFERENCE = tiny_tokenizer()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_ids_are_the_tokenizer_s_own_cut_at_the_end(texts: list[str]) -> None:
    for text, found in zip(texts, PLAIN.encode(texts), strict=True):
        whole = REFERENCE.encode(text).ids
        assert found.ids.tolist() == (whole[:8] or [EMPTY])
        assert found.was_cut is (len(whole) > 8)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_special_tokens_survive_the_cut(text: str) -> None:
    (found,) = FRAMED.encode([text])
    whole = REFERENCE.encode(text).ids
    assert found.ids.tolist() == [1, *whole[:6], 2]
    assert found.was_cut is (len(whole) > 6)


@given(st.text(st.sampled_from("a \ud800\udfff\ud83d\ude00é"), max_size=20))
def test_half_a_surrogate_pair_reads_as_the_replacement_character(text: str) -> None:
    cleaned = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)
    for tokenizer in (PLAIN, FRAMED):
        (found,) = tokenizer.encode([text])
        (expected,) = tokenizer.encode([cleaned])
        np.testing.assert_array_equal(found.ids, expected.ids)
        # The other texts of the call are read as they are.
        assert tokenizer.encode(["Top up", text])[0].ids.tolist() == tokenizer.encode(["Top up"])[0].ids.tolist()


def test_a_text_without_tokens_becomes_the_empty_token() -> None:
    assert PLAIN.encode([""])[0].ids.tolist() == [EMPTY]
    assert FRAMED.encode([""])[0].ids.tolist() == [1, 2]


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=20)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path / "tokenizer.json", SPEC)
    assert [len(found.ids) for found in loaded.encode(["Top up", TEXTS[-1]])] == [len(REFERENCE.encode("Top up")), 8]


def test_a_version_that_tokenizers_cannot_read_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    content = tiny_tokenizer().to_str().replace('"version":"1.0"', '"version":"9.0"')
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(MatcherDirectoryError, match=r"tokenizer\.json: .*'9\.0'.*upgrade tokenizers"):
        load_tokenizer(tmp_path / "tokenizer.json", SPEC)


@pytest.mark.parametrize(("change", "message"), [({"empty_token_id": 10**6}, "1000000"), ({"max_length": 2}, "room")])
def test_numbers_that_do_not_fit_the_tokenizer_are_errors(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with_special_tokens(tiny_tokenizer()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(MatcherDirectoryError, match=message):
        load_tokenizer(tmp_path / "tokenizer.json", replace(SPEC, **change))


def word_piece() -> Tokenizer:
    vocabulary = {"<pad>": 0, "[UNK]": 1, "</s>": 2, "card": 3, "pin": 4, "##s": 5, "?": 6, "top": 7, "up": 8}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def llama_3() -> Tokenizer:
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer = tiny_tokenizer()
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(use_regex=False)])
    tokenizer.add_special_tokens(["<s>", "<|end of text|>"])
    return tokenizer


def digits_from_the_right() -> Tokenizer:
    """Groups digits in threes from the end of a number, so that a word depends on all the digits behind it."""
    tokenizer = tiny_tokenizer()
    split = pre_tokenizers.Split(Regex(r"\d{1,3}(?=(\d{3})*(\D|$))|\s+|[^\s\d]+"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(use_regex=False)])
    return tokenizer


def gemma() -> Tokenizer:
    """Takes the whole text for one word."""
    tokenizer = tiny_tokenizer()
    tokenizer.normalizer = normalizers.Replace(" ", "Ġ")
    tokenizer.pre_tokenizer = None
    return tokenizer


PIECES = st.sampled_from(
    ["card ", "pins? ", "a", "  ", "\n", "\r\n\n", "7", "如何", "'ll", "!?", "<|end of text|>", "é"]
)
LONG_TEXT = st.lists(st.tuples(PIECES, st.integers(1, 300)), min_size=1, max_size=8).map(
    lambda runs: "".join(piece * count for piece, count in runs)
)


KINDS = [tiny_tokenizer(), word_piece(), llama_3(), digits_from_the_right(), gemma()]


@pytest.mark.parametrize("kind", range(len(KINDS)))
@settings(max_examples=60)
@given(text=LONG_TEXT, max_length=st.integers(1, 12))
def test_looking_at_the_start_alone_changes_no_token(kind: int, text: str, max_length: int) -> None:
    whole = KINDS[kind].encode(text).ids
    (found,) = TextTokenizer(KINDS[kind], max_length=max_length, empty_token_id=EMPTY).encode([text])
    assert found.ids.tolist() == (whole[:max_length] or [EMPTY])
    assert found.was_cut is (len(whole) > max_length)


class Watched:
    """A tokenizer that says how much it was given to read."""

    def __init__(self, inner: Tokenizer) -> None:
        self.inner = inner
        self.longest = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode(self, text: str, **options: Any) -> Any:
        self.longest = max(self.longest, len(text))
        return self.inner.encode(text, **options)

    def encode_batch_fast(self, texts: list[str]) -> Any:
        self.longest = max([self.longest, *map(len, texts)])
        return self.inner.encode_batch_fast(texts)


@pytest.mark.parametrize(
    ("piece", "most"),
    [("a question ", 400), ("a", 17_000), (" ", 17_000), ("如何", 17_000), ("\ud800 ", 400)],
)
def test_no_more_of_a_huge_text_is_tokenized_than_needed(piece: str, most: int) -> None:
    watched = Watched(tiny_tokenizer())
    tokenizer = TextTokenizer(watched, max_length=8, empty_token_id=EMPTY)  # type: ignore[arg-type]
    text = piece * (10_000_000 // len(piece))
    (found,) = tokenizer.encode([text])
    assert watched.longest <= most
    assert found.was_cut
    assert found.ids.tolist() == tokenizer.encode([text[:2000]])[0].ids.tolist()


def test_a_panic_of_the_tokenizer_is_an_error_of_this_package() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(a|a)*$"), behavior="isolated")
    with pytest.raises(ExecutionError, match="the tokenizer failed on a text"):
        TextTokenizer(tokenizer, max_length=64, empty_token_id=EMPTY).encode(["a" * 40 + "!"])
