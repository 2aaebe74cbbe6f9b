"""The decoder path's question: both texts in a prompt, answered by one of two words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.training.data.tokens import TokenizedTexts, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import PromptConfig
    from flipkd_sdk.training.models.student import Student


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """Prompted pairs as token ids, up to where the label word begins."""

    tokens: TokenizedTexts
    words: tuple[int, int]
    """First token in which the two label words differ: that of "no", that of "yes"."""

    def batch(self, positions: Sequence[int]) -> dict[str, Tensor]:
        """``prompt_ids`` and ``prompt_mask``, int64 (batch, seq), padded on the left: every prompt ends last."""
        padded = self.tokens.batch(positions, left=True)
        return {"prompt_ids": padded["input_ids"], "prompt_mask": padded["attention_mask"]}


def prompt_pairs(tokenizer: PreTrainedTokenizerBase, pairs: Pairs, config: PromptConfig, *, max_length: int) -> Prompts:
    """Put each pair into the template; a text is cut where the student as an encoder would cut it.

    What both label words begin with (some tokenizers make the space a token of its own) belongs to the prompt.

    Raises:
        ConfigError: the tokenizer makes one label word the beginning of the other.
    """
    no, yes = (tokenizer(word, add_special_tokens=False)["input_ids"] for word in (config.no, config.yes))
    differs = next((i for i, (one, other) in enumerate(zip(no, yes, strict=False)) if one != other), None)
    if differs is None:
        raise ConfigError(
            f"options prompt.yes = {config.yes!r} and prompt.no = {config.no!r} begin with the same tokens of the "
            "student; choose other words"
        )
    rows = [
        config.template.format(a=_cut(tokenizer, a, max_length), b=_cut(tokenizer, b, max_length))
        for a, b in zip(pairs.a, pairs.b, strict=True)
    ]
    ids: list[list[int]] = tokenizer(rows, add_special_tokens=True)["input_ids"] if rows else []
    ended = tokenizer("", add_special_tokens=True)["input_ids"][-1:] == [tokenizer.eos_token_id]
    # Some tokenizers close every text with EOS, after which no word would be expected.
    asked = [[*(row[:-1] if ended and row[-1:] == [tokenizer.eos_token_id] else row), *no[:differs]] for row in ids]
    tokens = TokenizedTexts(asked, int(tokenizer.pad_token_id), 0)
    return Prompts(tokens, (no[differs], yes[differs]))


def yes_probabilities(student: Student, prompts: Prompts) -> NDArray[np.float32]:
    """The decoder path's score of each pair: probability of the "yes" word against the "no" word, float32 (n,)."""
    no, yes = prompts.words

    def odds(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits = student.next_token_logits(input_ids, attention_mask)
        return torch.sigmoid(logits[:, yes] - logits[:, no])[:, None]

    student.eval()
    return encode(prompts.tokens, odds, batch_size=32, device=student.encoder_weight.device, left=True)[:, 0]


def _cut(tokenizer: PreTrainedTokenizerBase, text: str, max_length: int) -> str:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    return text if len(offsets) <= max_length else text[: offsets[max_length - 1][1]]
