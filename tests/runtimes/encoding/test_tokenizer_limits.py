from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from tiny import tiny_tokenizer
from tokenizers import Tokenizer, models, normalizers

from flipkd_sdk.artifact.manifest import TokenizerSpec
from flipkd_sdk.errors import MatcherDirectoryError
from flipkd_sdk.runtimes.encoding.tokenizer import TextTokenizer, load_tokenizer
from flipkd_sdk.runtimes.encoding.tokenizer_limits import normalizer_growth

if TYPE_CHECKING:
    from pathlib import Path

SPEC = TokenizerSpec("tokenizer.json", "", 0, max_length=8, empty_token_id=2, special_tokens=())
TEN = normalizers.Replace("a", "a" * 10)


def charsmap(longest: int) -> bytes:
    """A table of SentencePiece with an empty index and one replacement."""
    return bytes(4) + b"x" * longest + b"\0"


BOMBS = {
    "one long replacement": normalizers.Replace("a", "a" * 100),
    "short ones on top of each other": normalizers.Sequence([TEN, TEN]),
    "nested": normalizers.Sequence([normalizers.Sequence([TEN]), normalizers.Sequence([normalizers.NFC(), TEN])]),
    "a long prefix": normalizers.Prepend("a" * 100),
    "a SentencePiece table": normalizers.Precompiled(charsmap(100)),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_tokenizer_that_blows_texts_up_is_refused(bomb: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.normalizer = BOMBS[bomb]
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(MatcherDirectoryError, match=r"tokenizer\.json: its normalizer could make a text \S+ times"):
        load_tokenizer(tmp_path / "tokenizer.json", SPEC)


@pytest.mark.parametrize(
    "normalizer",
    [
        normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.StripAccents()]),
        normalizers.BertNormalizer(),
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        normalizers.Sequence([normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD()]),
    ],
)
def test_what_real_tokenizers_do_is_accepted(normalizer: Any, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.normalizer = normalizer
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path / "tokenizer.json", SPEC).encode(["Top up"])[0].ids.size > 0


def test_growth_multiplies_along_a_sequence() -> None:
    replace = {"type": "Replace", "pattern": {"String": "a"}, "content": "bbb"}
    remove = {**replace, "content": ""}
    table = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap(5)).decode()}
    assert normalizer_growth({"type": "Sequence", "normalizers": [replace, remove, table, {"type": "NFC"}]}) == 15


def test_a_tokenizer_that_draws_lots_is_refused(tmp_path: Path) -> None:
    content = json.loads(tiny_tokenizer().to_str())
    content["model"]["dropout"] = 0.5
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(MatcherDirectoryError, match="at random"):
        load_tokenizer(tmp_path / "tokenizer.json", SPEC)


def test_a_token_beyond_the_vocabulary_does_not_overflow() -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 4_000_000_000}, unk_token="a"))  # noqa: S106
    (found,) = TextTokenizer(tokenizer, max_length=8, empty_token_id=0).encode(["a"])
    assert found.ids.tolist() == [4_000_000_000]
