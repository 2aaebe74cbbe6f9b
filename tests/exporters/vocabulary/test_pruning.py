from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import TEXTS, byte_level_tokenizer, tiny_tokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors, trainers

from flipkd_sdk.errors import ConfigError, VerificationError
from flipkd_sdk.exporters.vocabulary import pruning
from flipkd_sdk.exporters.vocabulary.pruning import TrimmedTokenizer, token_count, trim, unchanged_share

UNKNOWN = "<unk>"
SENTENCES = (
    *TEXTS,
    "a banana bandana",
    "aaaaaaa aaa",
    "abcabcab cabc",
    "ana nan banan",
    "如何付款？如何付款？",
    "été é",
)
CORPUS = 3 * SENTENCES


def byte_level() -> Tokenizer:
    tokenizer = byte_level_tokenizer(CORPUS, 500)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def ignoring_merges() -> Tokenizer:
    """As Llama 3 has it: a word of the vocabulary is taken whole, and some words no merges lead to."""
    content = json.loads(byte_level().to_str())
    content["model"]["ignore_merges"] = True
    for word in ("Ġxylophone", "zzz", "banana"):
        content["model"]["vocab"].setdefault(word, len(content["model"]["vocab"]))
    return Tokenizer.from_str(json.dumps(content))


def byte_fallback() -> Tokenizer:
    """As Gemma has it: whole texts as one word, every way to split a token as a merge, and <bos> before each text."""
    trained = Tokenizer(models.BPE(unk_token=UNKNOWN))
    trained.normalizer = normalizers.Replace(" ", "▁")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    )
    content = json.loads(trained.to_str())
    vocab = content["model"]["vocab"]
    merges = [
        [token[:cut], token[cut:]]
        for token in sorted(vocab, key=vocab.__getitem__)
        if token not in special
        for cut in range(1, len(token))
        if token[:cut] in vocab and token[cut:] in vocab
    ]
    content["model"] |= {"byte_fallback": True, "fuse_unk": True, "merges": merges}
    content["added_tokens"] = content["added_tokens"][:4]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_tokens([AddedToken("<unused0>", normalized=False), AddedToken("<table>", normalized=False)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.Sequence(
        [
            processors.TemplateProcessing(
                single="<bos> $A", pair="<bos> $A <eos> $B:1", special_tokens=[("<bos>", 2), ("<eos>", 1)]
            )
        ]
    )
    return tokenizer


KINDS = {"byte level": byte_level(), "ignore_merges": ignoring_merges(), "byte fallback": byte_fallback()}
WORDS = st.sampled_from(
    ["How", "reset", "my", "PIN", "bandana", "ana", "aaaa", "abcab", "xylophone", "zzz", "如何", "é"]
)
DOMAIN = st.lists(st.lists(WORDS, max_size=5).map(" ".join) | st.text("abcn é如付", max_size=12), max_size=5)
kinds = pytest.mark.parametrize("kind", KINDS)


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return tokenizer.encode(text).tokens


@kinds
@settings(max_examples=60, deadline=None)
@given(texts=DOMAIN, other=st.text(max_size=40) | DOMAIN.map(" ".join), size=st.integers(0, 700))
@example(texts=["a banana"], other="a bandana <table> <unused0> 🎉 \x00 付", size=0)
def test_any_text_is_still_read_and_the_domains_as_before(kind: str, texts: list[str], other: str, size: int) -> None:
    whole = KINDS[kind]
    trimmed = trim(whole, texts, size=size)
    smaller = trimmed.tokenizer
    for text in ["", *texts]:
        assert pieces(smaller, text) == pieces(whole, text)
        assert trimmed.kept[smaller.encode(text).ids].tolist() == whole.encode(text).ids
    assert smaller.decode(smaller.encode(other).ids) == whole.decode(whole.encode(other).ids)
    if smaller.get_vocab().keys() >= set(pieces(whole, other)):
        assert pieces(smaller, other) == pieces(whole, other)


@kinds
@given(texts=DOMAIN, size=st.integers(0, 700))
@settings(max_examples=20, deadline=None)
def test_ids_are_dense_and_a_second_trim_finds_nothing(kind: str, texts: list[str], size: int) -> None:
    whole = KINDS[kind]
    trimmed = trim(whole, texts, size=size)
    ids = trimmed.tokenizer.get_vocab()
    assert sorted(ids.values()) == list(range(len(trimmed.kept)))
    assert [whole.id_to_token(old) for old in trimmed.kept] == sorted(ids, key=ids.__getitem__)
    assert len(trimmed.kept) >= min(size, len(json.loads(whole.to_str())["model"]["vocab"]) - 300)
    again = trim(trimmed.tokenizer, texts, size=size)
    assert again.kept.tolist() == list(range(len(trimmed.kept)))


@kinds
def test_fewer_texts_need_fewer_tokens(kind: str) -> None:
    whole = KINDS[kind]
    sizes = [len(trim(whole, texts).kept) for texts in ([], ["a banana"], CORPUS)]
    assert 256 <= sizes[0] < sizes[1] < sizes[2] <= whole.get_vocab_size()
    filled = trim(whole, [], size=sizes[0] + 20)
    assert sizes[0] + 20 <= len(filled.kept) <= sizes[0] + 25


def test_the_most_frequent_tokens_fill_up() -> None:
    whole = KINDS["byte level"]
    first = ["".join(pair) for pair in json.loads(whole.to_str())["model"]["merges"][:10]]
    bare = trim(whole, []).tokenizer.get_vocab().keys()
    assert trim(whole, [], size=len(bare) + 10).tokenizer.get_vocab().keys() - bare == set(first)


def test_special_tokens_keep_their_meaning_under_new_ids() -> None:
    whole = KINDS["byte fallback"]
    trimmed = trim(whole, ["a <table>"], required=["<pad>", None, "not there"]).tokenizer  # type: ignore[list-item]
    assert pieces(trimmed, "a")[0] == "<bos>"
    assert trimmed.encode("a").ids[0] == trimmed.token_to_id("<bos>") != 2
    assert pieces(trimmed, "<table>") == ["<bos>", "<table>"]
    assert trimmed.token_to_id("<pad>") == 0
    assert trimmed.token_to_id("<eos>") is None
    assert trimmed.token_to_id("<unused0>") is None
    assert trimmed.token_to_id("<unk>") is not None
    assert trimmed.num_special_tokens_to_add(is_pair=False) == 1


def test_a_character_that_was_left_out_is_read_byte_by_byte() -> None:
    trimmed = trim(KINDS["byte fallback"], ["banana"]).tokenizer
    assert pieces(trimmed, "é") == ["<bos>", "<0xC3>", "<0xA9>"]
    assert pieces(KINDS["byte fallback"], "é") == ["<bos>", "é"]


def test_every_character_stays_where_there_are_no_bytes() -> None:
    whole = Tokenizer(models.BPE(unk_token=UNKNOWN))
    whole.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
    )
    trimmed = trim(whole, ["banana"]).tokenizer
    assert "<unk>" not in pieces(trimmed, "如何付款？ été")
    assert pieces(trimmed, "ж") == ["<unk>"]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_every_kind_of_post_processor_is_renumbered(kind: str) -> None:
    whole = tiny_tokenizer()
    ends = ("</s>", 2), ("<s>", 1)
    whole.post_processor = processors.BertProcessing(*ends) if kind == "bert" else processors.RobertaProcessing(*ends)
    trimmed = trim(whole, ["card"])
    assert pieces(trimmed.tokenizer, "card") == pieces(whole, "card")
    assert trimmed.kept[trimmed.tokenizer.encode("card").ids].tolist() == whole.encode("card").ids
    assert trimmed.tokenizer.token_to_id("<s>") == 0, "<pad> is gone, so all ids have moved"


def test_the_share_of_unchanged_tokens_and_the_token_count_are_measured() -> None:
    whole = KINDS["byte level"]
    trimmed = trim(whole, ["banana"]).tokenizer
    assert unchanged_share(whole, trimmed, ["banana", "banana banana"[:6]]) == 1.0
    assert unchanged_share(whole, trimmed, []) == 1.0
    assert 0.0 < unchanged_share(whole, trimmed, ["banana", "How do I reset my card PIN?"]) < 1.0
    assert token_count(whole, ["banana", ""]) == len(whole.encode("banana").ids)
    assert token_count(trimmed, ["How do I"]) > token_count(whole, ["How do I"])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0),
            "the tokenizer is a Unigram model, and only",
        ),
        (
            models.WordPiece({UNKNOWN: 0}, unk_token=UNKNOWN),
            "the tokenizer is a WordPiece model, and only BPE",
        ),
        (models.BPE({"a": 0}, [], end_of_word_suffix="</w>"), "where words go on or end (end_of_word_suffix = '</w>')"),
        (models.BPE({"a": 0}, [], continuing_subword_prefix="##"), "(continuing_subword_prefix = '##'), and such"),
    ],
)
def test_other_tokenizers_are_refused(model: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        trim(Tokenizer(model), [])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("--trim-vocab: ")


def test_a_text_that_would_be_read_otherwise_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "_built_through", lambda token, _: {token})  # without what it is built from
    with pytest.raises(VerificationError, match="the text 'How do I reset' is not encoded as before"):
        trim(KINDS["byte level"], ["a", "How do I reset"])


def test_a_different_numbering_of_the_kept_tokens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rewritten = pruning._rewritten

    def swapped(content: dict[str, Any], order: list[str]) -> dict[str, Any]:
        return rewritten(content, [order[1], order[0], *order[2:]])

    monkeypatch.setattr(pruning, "_rewritten", swapped)
    with pytest.raises(VerificationError, match="numbers the kept tokens differently"):
        trim(KINDS["byte level"], ["banana"])


def test_kept_ids_are_int64() -> None:
    trimmed = trim(KINDS["byte level"], ["banana"])
    assert isinstance(trimmed, TrimmedTokenizer)
    assert (trimmed.kept.dtype, trimmed.kept.ndim) == ("int64", 1)
