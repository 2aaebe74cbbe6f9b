"""What a tokenizer file may not do: blow a text up, or read the same text in two ways.

A tokenizer is data, but its normalizer rewrites texts: one that replaces each letter by ten, ten times over, turns a
short question into gigabytes. Real ones replace a character by at most a few.
"""

from __future__ import annotations

import binascii
import json
import math
from typing import TYPE_CHECKING, Any

from flipkd_sdk.errors import MatcherDirectoryError

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

_MAX_GROWTH = 64
"""Most characters that a normalizer may put in the place of one; Unicode's own normal forms need 18."""


def refuse_hostile_tokenizer(path: Path, tokenizer: Tokenizer) -> None:
    """Check what a loaded tokenizer can do to a text.

    Raises:
        MatcherDirectoryError: it could make a text many times longer, or it splits words at random.
    """
    if getattr(tokenizer.model, "dropout", None):
        raise MatcherDirectoryError(f"{path}: splits words at random (dropout), so a text would have no one score")
    growth = normalizer_growth(json.loads(tokenizer.normalizer.__getstate__())) if tokenizer.normalizer else 1.0
    if growth > _MAX_GROWTH:
        raise MatcherDirectoryError(
            f"{path}: its normalizer could make a text {growth:.3g} times longer; at most {_MAX_GROWTH} is accepted"
        )


def normalizer_growth(normalizer: dict[str, Any]) -> float:
    """How many characters a normalizer, as ``tokenizer.json`` has it, makes of one at most."""
    match normalizer.get("type"):
        case "Sequence":
            return math.prod(normalizer_growth(step) for step in normalizer["normalizers"])
        case "Replace":
            return float(max(1, len(normalizer["content"])))
        case "Prepend":
            return 1.0 + len(normalizer["prepend"])
        case "Precompiled":
            return float(max(1, _longest_replacement(normalizer["precompiled_charsmap"])))
    return 1.0


def _longest_replacement(charsmap: str) -> int:
    """SentencePiece's table: the size of an index in four bytes, the index, and the replacements with a NUL each."""
    content = binascii.a2b_base64(charsmap)
    index_size = int.from_bytes(content[:4], "little")
    return max(len(replacement) for replacement in content[4 + index_size :].split(b"\0"))
