from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import TEXTS, tiny_tokenizer
from tokenizers import Tokenizer, processors

from flipkd_sdk.errors import MatcherDirectoryError
from flipkd_sdk.manifest import TokenizerSpec
from flipkd_sdk.runtimes.tokenization import TextTokenizer, load_tokenizer

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
        assert found.uncut_length == len(whole)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_special_tokens_survive_the_cut(text: str) -> None:
    (found,) = FRAMED.encode([text])
    whole = REFERENCE.encode(text).ids
    assert found.ids.tolist() == [1, *whole[:6], 2]
    assert found.uncut_length == len(whole) + 2


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


def test_a_file_that_is_no_tokenizer_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "9.0"}')
    with pytest.raises(MatcherDirectoryError, match=r"tokenizer\.json: .*upgrade tokenizers"):
        load_tokenizer(tmp_path / "tokenizer.json", SPEC)


@pytest.mark.parametrize(("change", "message"), [({"empty_token_id": 10**6}, "1000000"), ({"max_length": 2}, "room")])
def test_numbers_that_do_not_fit_the_tokenizer_are_errors(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with_special_tokens(tiny_tokenizer()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(MatcherDirectoryError, match=message):
        load_tokenizer(tmp_path / "tokenizer.json", replace(SPEC, **change))
