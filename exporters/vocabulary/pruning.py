"""A smaller vocabulary: the tokens that a domain's texts need, in a tokenizer that reads any text still.

Byte-pair encoding (Sennrich et al., 2016) starts from single symbols and applies, as long as it can, the merge of the
lowest rank among neighbouring pieces. Two facts about it are what trimming rests on.

1. Where merges are left out that a text's encoding does not apply, its encoding stays: the lowest rank among all merges
   at hand is the lowest among fewer, too, so step by step the same merge is chosen, and where none was left before none
   is now.
2. No merge that is applied crosses the border of a piece that is left at the end, and those inside are the ones that
   the piece's characters ask for by themselves, in that order. So a piece is built in the same way in every text.

Hence a tokenizer that keeps some pieces, and the pieces through which each is built, encodes every text of those pieces
as before. Other texts fall back to smaller pieces, down to the single symbols, all of which are kept.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from flipkd_sdk.errors import ConfigError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Ranks = Mapping[tuple[str, str], int]
    """The merges, each with its place in the list."""

_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
"""Tokens that stand for a character that is not in the vocabulary, byte by byte, in SentencePiece's models."""

_CHUNK = 4096
"""Texts that are encoded at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class TrimmedTokenizer:
    """A tokenizer of fewer tokens."""

    tokenizer: Tokenizer
    kept: NDArray[np.int64]
    """The old id of each new one, shape (tokens,)."""


def trim(
    tokenizer: Tokenizer, texts: Sequence[str], *, required: Iterable[str] = (), size: int = 0
) -> TrimmedTokenizer:
    """Keep the tokens of texts, what builds them, and as many of the most frequent others as there is room for.

    A merge's place in the list is how frequent its piece was in the texts that the vocabulary was learned from.

    Args:
        tokenizer: a byte-pair encoding that neither truncates nor pads.
        texts: they are encoded as before, piece by piece.
        required: special tokens to keep beside those that the tokenizer adds to every text by itself.
        size: how many tokens to fill up to; the texts' own are kept even where they are more.

    Raises:
        ConfigError: the tokenizer is not a byte-pair encoding of plain pieces.
        VerificationError: a text is not encoded as before after all.
    """
    content = json.loads(tokenizer.to_str())
    _refuse_others(content["model"])
    ids = tokenizer.get_vocab(with_added_tokens=True)
    token_of = {token_id: token for token, token_id in ids.items()}
    # The space, as normalizers put a symbol of their own in its place, which only as such becomes a space again.
    needed = {token_of[token_id] for encoded in _encoded(tokenizer, ["", " ", *texts]) for token_id in encoded}
    needed |= ids.keys() & {content["model"]["unk_token"], *required}
    tokens = _closure(content["model"], needed, size)
    # What is not in the model's own vocabulary comes last, as tokenizers numbers it when it reads the file.
    order = sorted(tokens, key=lambda token: (token not in content["model"]["vocab"], ids[token]))
    smaller = Tokenizer.from_str(json.dumps(_rewritten(content, order), ensure_ascii=False))
    trimmed = TrimmedTokenizer(smaller, np.array([ids[token] for token in order], dtype=np.int64))
    _check(tokenizer, trimmed, order, texts)
    return trimmed


def unchanged_share(tokenizer: Tokenizer, trimmed: Tokenizer, texts: Sequence[str]) -> float:
    """Share of the texts' tokens that the smaller tokenizer reads, in the same place, too; 1 where there are none."""
    tokens = unchanged = 0
    for text in texts:
        before, after = (
            Counter(zip(encoding.tokens, encoding.offsets, strict=True))
            for encoding in (tokenizer.encode(text), trimmed.encode(text))
        )
        tokens += before.total()
        unchanged += (before & after).total()
    return unchanged / tokens if tokens else 1.0


def token_count(tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    """Number of tokens of all texts."""
    return sum(len(encoded) for encoded in _encoded(tokenizer, texts))


def _refuse_others(model: Mapping[str, Any]) -> None:
    kind = model["type"]
    if kind != "BPE":
        raise ConfigError(
            f"--trim-vocab: the student's tokenizer is a {kind} model, and only BPE can be trimmed; omit the option"
        )
    for option in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model[option]:
            raise ConfigError(
                f"--trim-vocab: the student's tokenizer marks where words go on or end ({option} = {model[option]!r}), "
                "and such vocabularies cannot be trimmed; omit the option"
            )


def _closure(model: Mapping[str, Any], needed: set[str], size: int) -> set[str]:
    """The needed tokens, what builds them, all symbols, and the results of the first merges up to a size."""
    vocabulary = model["vocab"]
    ranks = {(left, right): rank for rank, (left, right) in enumerate(model["merges"])}
    by_bytes = model["byte_fallback"] and all(byte in vocabulary for byte in _BYTES)
    kept = set(_BYTES) if by_bytes else {token for token in vocabulary if len(token) == 1}
    for token in needed:
        kept.update(_built_through(token, ranks))
    for left, right in model["merges"]:
        if len(kept) >= size:
            break
        kept.update(_built_through(left + right, ranks))
    return kept


def _built_through(token: str, ranks: Ranks) -> set[str]:
    """A token and all pieces on the way from its characters to it; itself alone where no merges lead to it."""
    pieces = list(token)
    passed = {token, *pieces}
    while found := [(ranks[pair], place) for place, pair in enumerate(pairwise(pieces)) if pair in ranks]:
        _, place = min(found)
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
        passed.add(pieces[place])
    return passed if pieces == [token] else {token}


def _rewritten(content: dict[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """A tokenizer file with the tokens of a given order, numbered by it."""
    ids = {token: token_id for token_id, token in enumerate(order)}
    model = content["model"]
    vocabulary = {token: token_id for token, token_id in ids.items() if token in model["vocab"]}
    merges = [pair for pair in model["merges"] if ids.keys() >= {*pair, "".join(pair)}]
    return content | {
        "model": model | {"vocab": vocabulary, "merges": merges},
        "added_tokens": [
            token | {"id": ids[token["content"]]} for token in content["added_tokens"] if token["content"] in ids
        ],
        "post_processor": _renumbered(content["post_processor"], ids),
    }


def _renumbered(processor: dict[str, Any] | None, ids: Mapping[str, int]) -> dict[str, Any] | None:
    """A post-processor that adds the same special tokens under their new ids."""
    if processor is None:
        return None
    match processor:
        case {"type": "Sequence", "processors": steps}:
            return processor | {"processors": [_renumbered(step, ids) for step in steps]}
        case {"type": "TemplateProcessing", "special_tokens": special}:
            # Those of the template for pairs may be gone, and a matcher reads no pairs.
            return processor | {
                "pair": processor["single"] + [{"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {
                    name: entry | {"ids": [ids[token] for token in entry["tokens"]]}
                    for name, entry in special.items()
                    if ids.keys() >= set(entry["tokens"])
                },
            }
        case {"type": "BertProcessing" | "RobertaProcessing"}:
            return processor | {end: [processor[end][0], ids[processor[end][0]]] for end in ("sep", "cls")}
    return processor


def _check(tokenizer: Tokenizer, trimmed: TrimmedTokenizer, order: Sequence[str], texts: Sequence[str]) -> None:
    """See for oneself that tokens are numbered as meant and texts are encoded as before."""
    if trimmed.tokenizer.get_vocab(with_added_tokens=True) != {token: i for i, token in enumerate(order)}:
        raise VerificationError("--trim-vocab: tokenizers numbers the kept tokens otherwise; omit the option")
    old, new = _encoded(tokenizer, texts), _encoded(trimmed.tokenizer, texts)
    for text, before, after in zip(texts, old, new, strict=True):
        if trimmed.kept[after].tolist() != before:
            raise VerificationError(
                f"--trim-vocab: the text {text[:80]!r} is not encoded as before with its tokens kept; omit the option"
            )


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[list[int]]:
    """The ids of each text, with the special tokens that the tokenizer adds."""
    chunks = (list(texts[start : start + _CHUNK]) for start in range(0, len(texts), _CHUNK))
    batches = (tokenizer.encode_batch_fast(chunk) for chunk in chunks)
    return (encoding.ids for encoding in chain.from_iterable(batches))
