"""Vocabulary pruning: a tokenizer with the tokens of a domain that still encodes any text.

Byte-pair encoding (Sennrich et al., 2016) starts from single symbols and repeatedly applies the neighbouring merge of
the lowest rank. Pruning rests on two of its properties.

1. Removing merges that the encoding of a text does not apply leaves that encoding unchanged: at every step the merge of
   the lowest rank is still available, and no new merge appears.
2. No applied merge crosses the border of a final piece, and the merges inside a piece depend on its characters only. So
   a piece is built in the same way in every text.

A tokenizer that keeps some pieces, and the pieces that build them, therefore encodes every text of those pieces as
before. Other texts fall back to smaller pieces, down to the single symbols, all of which are kept.
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
    """Rank of each merge in the list."""

_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
"""Byte tokens, which SentencePiece models use for characters outside the vocabulary."""

_CHUNK = 4096
"""Texts encoded at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class TrimmedTokenizer:
    """A tokenizer of fewer tokens."""

    tokenizer: Tokenizer
    kept: NDArray[np.int64]
    """Old id of each new token, shape (tokens,)."""


def trim(
    tokenizer: Tokenizer, texts: Sequence[str], *, required: Iterable[str] = (), size: int = 0
) -> TrimmedTokenizer:
    """Keep the tokens of texts, the pieces that build them, and the most frequent other tokens up to a size.

    Merges are ordered by the frequency of their piece in the corpus that the vocabulary was learned from.

    Args:
        tokenizer: a byte-pair encoding that neither truncates nor pads.
        texts: texts whose encoding must not change.
        required: special tokens to keep, besides those that the tokenizer adds to every text.
        size: number of tokens to fill up to; all tokens of the texts are kept even if they are more.

    Raises:
        ConfigError: the tokenizer is not a byte-pair encoding of plain pieces.
        VerificationError: the encoding of a text changed.
    """
    content = json.loads(tokenizer.to_str())
    _refuse_others(content["model"])
    ids = tokenizer.get_vocab(with_added_tokens=True)
    token_of = {token_id: token for token, token_id in ids.items()}
    # Normalizers replace the space by a symbol of their own, which must be kept to be decoded.
    needed = {token_of[token_id] for encoded in _encoded(tokenizer, ["", " ", *texts]) for token_id in encoded}
    needed |= ids.keys() & {content["model"]["unk_token"], *required}
    tokens = _closure(content["model"], needed, size)
    # tokenizers numbers added tokens outside the model's vocabulary last when it reads the file.
    order = sorted(tokens, key=lambda token: (token not in content["model"]["vocab"], ids[token]))
    smaller = Tokenizer.from_str(json.dumps(_rewritten(content, order), ensure_ascii=False))
    trimmed = TrimmedTokenizer(smaller, np.array([ids[token] for token in order], dtype=np.int64))
    _check(tokenizer, trimmed, order, texts)
    return trimmed


def unchanged_share(tokenizer: Tokenizer, trimmed: Tokenizer, texts: Sequence[str]) -> float:
    """Return the share of the texts' tokens that the smaller tokenizer leaves unchanged; 1 without tokens."""
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
    """Return the number of tokens of all texts."""
    return sum(len(encoded) for encoded in _encoded(tokenizer, texts))


def _refuse_others(model: Mapping[str, Any]) -> None:
    kind = model["type"]
    if kind != "BPE":
        raise ConfigError(
            f"--trim-vocab: the tokenizer is a {kind} model, and only BPE can be trimmed; omit the option"
        )
    for option in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model[option]:
            raise ConfigError(
                f"--trim-vocab: the tokenizer marks where words go on or end ({option} = {model[option]!r}), "
                "and such vocabularies cannot be trimmed; omit the option"
            )


def _closure(model: Mapping[str, Any], needed: set[str], size: int) -> set[str]:
    """Return the needed tokens, the pieces that build them, all symbols, and the first merges up to a size."""
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
    """Return a token and all pieces between its characters and it; the token alone if no merges build it."""
    pieces = list(token)
    passed = {token, *pieces}
    while found := [(ranks[pair], index) for index, pair in enumerate(pairwise(pieces)) if pair in ranks]:
        _, index = min(found)
        pieces[index : index + 2] = [pieces[index] + pieces[index + 1]]
        passed.add(pieces[index])
    return passed if pieces == [token] else {token}


def _rewritten(content: dict[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """Return a tokenizer file with the given tokens, numbered in the given order."""
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
    """Return a post-processor that adds the same special tokens under their new ids."""
    if processor is None:
        return None
    match processor:
        case {"type": "Sequence", "processors": steps}:
            return processor | {"processors": [_renumbered(step, ids) for step in steps]}
        case {"type": "TemplateProcessing", "special_tokens": special}:
            # The special tokens of the pair template may be removed; a matcher encodes single texts only.
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
    """Check the numbering of the tokens and the encoding of the texts."""
    if trimmed.tokenizer.get_vocab(with_added_tokens=True) != {token: i for i, token in enumerate(order)}:
        raise VerificationError("--trim-vocab: tokenizers numbers the kept tokens differently; omit the option")
    old, new = _encoded(tokenizer, texts), _encoded(trimmed.tokenizer, texts)
    for text, before, after in zip(texts, old, new, strict=True):
        if trimmed.kept[after].tolist() != before:
            raise VerificationError(
                f"--trim-vocab: the text {text[:80]!r} is not encoded as before with its tokens kept; omit the option"
            )


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[list[int]]:
    """Yield the ids of each text, with special tokens."""
    chunks = (list(texts[start : start + _CHUNK]) for start in range(0, len(texts), _CHUNK))
    batches = (tokenizer.encode_batch_fast(chunk) for chunk in chunks)
    return (encoding.ids for encoding in chain.from_iterable(batches))
