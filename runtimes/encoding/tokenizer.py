"""Text → token ids.

The tokenizer is configured once, at load: its truncation and padding are switched off for good, because changing them
for a call corrupts the results of other threads. Texts are cut here instead, and padded when batches are built.
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
"""Characters before a cut that are not trusted: longer than any special token, ligature or composed character."""

_SURROGATES = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class TokenIds(NamedTuple):
    """The tokens of one text."""

    ids: NDArray[np.uint32]
    """Shape (length,), at least one and at most ``max_length``."""
    was_cut: bool
    """Whether the text has more tokens than these."""


class TextTokenizer:
    """Turns texts into token ids; safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, empty_token_id: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.max_length = max_length
        self._tokenizer = tokenizer
        self._room = max_length - tokenizer.num_special_tokens_to_add(is_pair=False)
        self._looks = (16 * max_length + _MARGIN, 64 * max_length + 16_384)
        """Characters of a text that are looked at, and in the hardest case; what follows those is never read."""
        self._empty = np.array([empty_token_id], dtype=np.uint32)
        self.padding_id = empty_token_id
        """Any token of the vocabulary would do: the attention mask hides it."""

    def is_huge(self, text: str) -> bool:
        """Whether a text is so much longer than what can be read that only a start of it is looked at."""
        return len(text) > self._looks[0]

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text; a text without any token becomes the manifest's ``empty_token_id``.

        Half a surrogate pair, which no tokenizer can read, counts as U+FFFD.

        Raises:
            ExecutionError: the tokenizer failed on a text.
        """
        # Nobody should wait for the tokens of a book where its first page is read.
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
            # Nothing else of a str is refused, and scanning every text beforehand would cost every caller.
            encodings = self._tokenizer.encode_batch_fast([_readable(text) for text in texts])
        return encodings

    def _cut(self, text: str, ids: list[int]) -> TokenIds:
        if len(ids) > self.max_length:
            return self._encode_start(text)
        return TokenIds(np.array(ids, dtype=np.uint32) if ids else self._empty, was_cut=False)

    def _encode_start(self, text: str) -> TokenIds:
        """The ids of a long text, cut before the special tokens are added, so that one at the end stays.

        Only a start of the text is tokenized, and it is enough where the tokens that fit are settled in it. Where they
        are not, because they stand for more than 16 characters each or the tokenizer takes the whole text for a single
        word, a longer one is; the tokens that fit are far from its end.
        """
        for characters in self._looks:
            start = _readable(text[:characters])
            encoding = self._tokenizer.encode(start, add_special_tokens=False)
            was_cut = len(encoding.ids) > self._room or len(start) < len(text)
            if len(start) == len(text) or settled_tokens(start, encoding) > self._room:
                break
        encoding.truncate(self._room)
        ids = self._tokenizer.post_process(encoding).ids
        return TokenIds(np.array(ids, dtype=np.uint32) if ids else self._empty, was_cut)


def settled_tokens(start: str, encoding: Encoding) -> int:
    """How many tokens of the start of a text the whole text begins with too.

    A tokenizer splits a text into words from left to right and each word into tokens by itself. Where a word ends
    depends on what follows it no further than to the end of the next run of letters, digits or spaces. So tokens are
    settled up to the end of a word behind which a space, another run of letters and `_MARGIN` characters were seen.
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
