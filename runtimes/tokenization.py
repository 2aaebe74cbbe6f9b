"""Text → token ids.

The tokenizer is configured once, at load: its truncation and padding are switched off for good, because changing them
for a call corrupts the results of other threads. Texts are cut here instead, and padded when batches are built.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from flipkd_sdk.errors import MatcherDirectoryError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.manifest import TokenizerSpec

_SURROGATES = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class TokenIds:
    """The tokens of one text."""

    ids: NDArray[np.int32]
    """Shape (length,), at least one and at most ``max_length``."""
    uncut_length: int
    """Tokens of the whole text, special ones included."""


class TextTokenizer:
    """Turns texts into token ids; safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, empty_token_id: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.max_length = max_length
        self._tokenizer = tokenizer
        self._room = max_length - tokenizer.num_special_tokens_to_add(is_pair=False)
        self._empty = np.array([empty_token_id], dtype=np.int32)
        self.padding_id = empty_token_id
        """Any token of the vocabulary would do: the attention mask hides it."""

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text; a text without any token becomes the manifest's ``empty_token_id``.

        Half a surrogate pair, which no tokenizer can read, counts as U+FFFD.
        """
        try:
            encodings = self._tokenizer.encode_batch_fast(texts)
        except TypeError:
            # Nothing else of a str is refused, and scanning every text beforehand would cost every caller.
            encodings = self._tokenizer.encode_batch_fast([_SURROGATES.sub(_REPLACEMENT, text) for text in texts])
        return [self._token_ids(text, encoding.ids) for text, encoding in zip(texts, encodings, strict=True)]

    def _token_ids(self, text: str, ids: list[int]) -> TokenIds:
        if not ids:
            return TokenIds(self._empty, 0)
        kept = self._cut(text) if len(ids) > self.max_length else ids
        return TokenIds(np.array(kept, dtype=np.int32), len(ids))

    def _cut(self, text: str) -> list[int]:
        """The ids cut before the special tokens are added, so that one at the end stays."""
        encoding = self._tokenizer.encode(_SURROGATES.sub(_REPLACEMENT, text), add_special_tokens=False)
        encoding.truncate(self._room)
        ids: list[int] = self._tokenizer.post_process(encoding).ids
        return ids


def load_tokenizer(path: Path, spec: TokenizerSpec) -> TextTokenizer:
    """Load a tokenizer file that was checked against the manifest.

    Raises:
        MatcherDirectoryError: it is not a tokenizer that the installed ``tokenizers`` can read, or the manifest's
            numbers do not fit it.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise MatcherDirectoryError(
            f"{path}: this release of tokenizers cannot read it ({error}); upgrade tokenizers"
        ) from error
    if not 0 <= spec.empty_token_id < tokenizer.get_vocab_size():
        raise MatcherDirectoryError(f"{path}: empty_token_id {spec.empty_token_id} is not one of its tokens")
    if spec.max_length <= tokenizer.num_special_tokens_to_add(is_pair=False):
        raise MatcherDirectoryError(f"{path}: max_length {spec.max_length} leaves no room beside its special tokens")
    return TextTokenizer(tokenizer, max_length=spec.max_length, empty_token_id=spec.empty_token_id)
