"""Text → token ids.

The tokenizer's truncation and padding stay off, because changing them for a call corrupts the results of other threads.
Texts are truncated here instead, and padded when batches are built.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flipkd_sdk.errors import MatcherDirectoryError
from flipkd_sdk.runtimes.encoding.tokenizer_file import failures_named, read_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

    from flipkd_sdk.artifact.manifest import TokenizerSpec

_MARGIN = 256
"""Characters before a cut whose tokens may change: longer than any special token, ligature or composed character."""

_SURROGATES = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class TokenIds(NamedTuple):
    """Token ids of one text."""

    ids: NDArray[np.uint32]
    """Shape (length,), at least one and at most ``max_length``."""
    was_cut: bool
    """True if the text has more tokens."""


class TextTokenizer:
    """A tokenizer that truncates; safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, empty_token_id: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.max_length = max_length
        self._tokenizer = tokenizer
        self._room = max_length - tokenizer.num_special_tokens_to_add(is_pair=False)
        self._looks = (16 * max_length + _MARGIN, 64 * max_length + 16_384)
        """Characters of a long text that are tokenized at first, and at most."""
        self._empty = np.array([empty_token_id], dtype=np.uint32)
        self.padding_id = empty_token_id
        """Any token of the vocabulary, because the attention mask hides it."""

    def is_huge(self, text: str) -> bool:
        """Return True if only the start of a text is tokenized."""
        return len(text) > self._looks[0]

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text; a text without tokens gets the manifest's ``empty_token_id``.

        A lone surrogate, which no tokenizer accepts, is read as U+FFFD.

        Raises:
            ExecutionError: the tokenizer failed on a text.
        """
        huge = [self.is_huge(text) for text in texts]
        ordinary = [text for text, is_huge in zip(texts, huge, strict=True) if not is_huge]
        with failures_named("the tokenizer failed on a text; export the matcher again"):
            encodings = iter(self._encode_whole(ordinary))
            return [
                self._encode_start(text) if is_huge else self._cut(text, next(encodings).ids)
                for text, is_huge in zip(texts, huge, strict=True)
            ]

    def _encode_whole(self, texts: list[str]) -> list[Encoding]:
        try:
            encodings: list[Encoding] = self._tokenizer.encode_batch_fast(texts)
        except TypeError:
            # Only lone surrogates are refused, and a search for them beforehand would cost time in every call.
            encodings = self._tokenizer.encode_batch_fast([_readable(text) for text in texts])
        return encodings

    def _cut(self, text: str, ids: list[int]) -> TokenIds:
        if len(ids) > self.max_length:
            return self._encode_start(text)
        return TokenIds(np.array(ids, dtype=np.uint32) if ids else self._empty, was_cut=False)

    def _encode_start(self, text: str) -> TokenIds:
        """Return the ids of a long text, truncated before special tokens are added, so that one at the end is kept.

        Only the start of the text is tokenized, which suffices if its first ``max_length`` tokens are settled. If they
        are not, because tokens have more than 16 characters or the whole text is a single word, a longer start is
        tokenized; the tokens that are kept are then far from its end.
        """
        encoding, was_cut = self._start(text)
        ids = encoding.ids
        return TokenIds(np.array(ids, dtype=np.uint32) if ids else self._empty, was_cut)

    def encode_with_spans(self, text: str) -> tuple[TokenIds, list[tuple[int, int]]]:
        """Return the token ids of a text, equal to those of `encode`, and the span of characters of each token.

        Raises:
            ExecutionError: the tokenizer failed on the text.
        """
        was_cut = self.is_huge(text)
        with failures_named("the tokenizer failed on a text; export the matcher again"):
            if not was_cut:
                encoding = self._tokenizer.encode(_readable(text))
                was_cut = len(encoding.ids) > self.max_length
            if was_cut:
                encoding, was_cut = self._start(text)
        if not encoding.ids:
            return TokenIds(self._empty, was_cut), [(0, 0)]
        return TokenIds(np.array(encoding.ids, dtype=np.uint32), was_cut), encoding.offsets

    def _start(self, text: str) -> tuple[Encoding, bool]:
        """Return the encoding of a long text and True if it was cut."""
        for characters in self._looks:
            start = _readable(text[:characters])
            encoding = self._tokenizer.encode(start, add_special_tokens=False)
            was_cut = len(encoding.ids) > self._room or len(start) < len(text)
            if len(start) == len(text) or settled_tokens(start, encoding) > self._room:
                break
        encoding.truncate(self._room)
        return self._tokenizer.post_process(encoding), was_cut


def settled_tokens(start: str, encoding: Encoding) -> int:
    """Return the number of tokens that the start of a text shares with the whole text.

    A tokenizer splits a text into words from left to right and each word into tokens by itself. The end of a word
    depends on the text behind it only to the end of the next run of letters, digits or spaces. Tokens are settled up to
    the end of a word that is followed by a space, another run of letters and `_MARGIN` characters.
    """
    chunks = start[:-_MARGIN].rsplit(maxsplit=1)
    edge = len(chunks[0]) if len(chunks) == 2 else 0
    words, ends = encoding.word_ids, [end for _, end in encoding.offsets]
    settled = next((i for i, end in enumerate(ends) if end > edge), len(ends))
    while 0 < settled < len(words) and words[settled - 1] == words[settled]:
        settled -= 1
    return settled


def load_tokenizer(path: Path, spec: TokenizerSpec) -> TextTokenizer:
    """Load a tokenizer file that was checked against the manifest.

    Raises:
        MatcherDirectoryError: `read_tokenizer` refuses it, or the manifest's numbers do not fit it.
    """
    tokenizer = read_tokenizer(path)
    if not 0 <= spec.empty_token_id < tokenizer.get_vocab_size():
        raise MatcherDirectoryError(f"{path}: empty_token_id {spec.empty_token_id} is not one of its tokens")
    if spec.max_length <= tokenizer.num_special_tokens_to_add(is_pair=False):
        raise MatcherDirectoryError(f"{path}: max_length {spec.max_length} leaves no room beside its special tokens")
    return TextTokenizer(tokenizer, max_length=spec.max_length, empty_token_id=spec.empty_token_id)


def _readable(text: str) -> str:
    return _SURROGATES.sub(_REPLACEMENT, text)
