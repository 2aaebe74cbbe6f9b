"""The decoder path's question: both texts in a prompt, answered by one of two words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.training.data.datasets import Prompts
from flipkd_sdk.training.tokens import TokenizedTexts, encode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import PromptConfig
    from flipkd_sdk.training.models.student import Student


def prompt_pairs(tokenizer: PreTrainedTokenizerBase, pairs: Pairs, config: PromptConfig, *, max_length: int) -> Prompts:
    """Put each pair into the template; a text is truncated where the student's encoder path truncates it.

    A common beginning of both label words belongs to the prompt: some tokenizers make the space a token of its own.

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
    texts = [
        config.template.format(a=_truncate(tokenizer, a, max_length), b=_truncate(tokenizer, b, max_length))
        for a, b in zip(pairs.a, pairs.b, strict=True)
    ]
    rows: list[list[int]] = tokenizer(texts, add_special_tokens=True)["input_ids"] if texts else []
    # Some tokenizers end every text with EOS; the label word could not follow it.
    ends_with_eos = tokenizer("", add_special_tokens=True)["input_ids"][-1:] == [tokenizer.eos_token_id]
    if ends_with_eos:
        rows = [row[:-1] if row[-1:] == [tokenizer.eos_token_id] else row for row in rows]
    tokens = TokenizedTexts([[*row, *no[:differs]] for row in rows], int(tokenizer.pad_token_id), 0)
    return Prompts(tokens, (no[differs], yes[differs]))


def yes_probabilities(student: Student, prompts: Prompts) -> NDArray[np.float32]:
    """Return the probability of the "yes" word against the "no" word for each pair, float32 (n,)."""
    no, yes = prompts.words

    def probability(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits = student.next_token_logits(input_ids, attention_mask)
        return torch.sigmoid(logits[:, yes] - logits[:, no])[:, None]

    student.eval()
    return encode(prompts.tokens, probability, batch_size=32, device=student.encoder_weight.device, left=True)[:, 0]


def _truncate(tokenizer: PreTrainedTokenizerBase, text: str, max_length: int) -> str:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    return text if len(offsets) <= max_length else text[: offsets[max_length - 1][1]]
