"""An encoder's prompt as part of its tokenizer file, so that every runtime that reads the file puts it in front.

The prompt's tokens are added as special tokens are, once a text. A tokenizer may treat the text behind a prompt
differently from the start of a text; so several ways are tried, and the first is used that encodes sample texts exactly
as the prompt and the text written in one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from flipkd_sdk.errors import ModelSourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedTokenizerBase

_TEXT = {"Sequence": {"id": "A", "type_id": 0}}
_NOTHING_ADDED = {"type": "TemplateProcessing", "single": [_TEXT], "special_tokens": {}}
_MAX_TOKENS = 16
"""Most tokens of one entry of a template, see `flipkd_sdk.runtimes.encoding.tokenizer_limits`."""
_MAX_ENTRIES = 8
_SPACES = (" ", "\n")
_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token", "mask_token")


def build_prompt_in(tokenizer: PreTrainedTokenizerBase, prompt: str, texts: Sequence[str]) -> PreTrainedTokenizerBase:
    """Return a tokenizer that puts a prompt in front of every text; the same tokenizer if there is no prompt.

    Args:
        tokenizer: the encoder's.
        prompt: text before every text; often empty.
        texts: texts to compare the encoding of.

    Raises:
        ModelSourceError: the tokenizer has no file of its own, or it cannot represent the prompt.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelSourceError(
            f"{type(tokenizer).__name__} cannot be written as tokenizer.json; choose an encoder with a fast tokenizer"
        )
    if not prompt:
        return tokenizer
    backend.no_truncation()
    backend.no_padding()
    expected = [encoding.ids for encoding in backend.encode_batch([prompt + text for text in texts])]
    for candidate in _candidates(backend, prompt):
        if [encoding.ids for encoding in candidate.encode_batch(list(texts))] == expected:
            roles = {role: str(token) for role in _ROLES if (token := getattr(tokenizer, role)) is not None}
            return PreTrainedTokenizerFast(tokenizer_object=candidate, padding_side="right", **roles)
    raise ModelSourceError(
        f"the prompt {prompt[:60]!r} cannot be written into the tokenizer file; export with --prompt '' and put the "
        "prompt in front of every text"
    )


def _candidates(backend: Tokenizer, prompt: str) -> Iterator[Tokenizer]:
    """Yield tokenizers with the prompt as it is, and with its last space in front of the text instead."""
    yield from _with_prompt(backend, prompt, "")
    for space in _SPACES:
        if prompt.endswith(space):
            yield from _with_prompt(backend, prompt[:-1], "")
            yield from _with_prompt(backend, prompt[:-1], space)


def _with_prompt(backend: Tokenizer, prompt: str, space: str) -> Iterator[Tokenizer]:
    encoding = backend.encode(prompt, add_special_tokens=False)
    content = json.loads(backend.to_str())
    ids, tokens = encoding.ids, encoding.tokens
    starts = range(0, len(ids), _MAX_TOKENS)
    if len(starts) > _MAX_ENTRIES:
        return
    entries = {
        f"prompt {start}": {
            "id": f"prompt {start}",
            "ids": ids[start : start + _MAX_TOKENS],
            "tokens": tokens[start : start + _MAX_TOKENS],
        }
        for start in starts
    }
    content["post_processor"] = _in_front(content["post_processor"] or _NOTHING_ADDED, entries)
    if space:
        step = {"type": "Prepend", "prepend": space}
        normalizer = content["normalizer"]
        content["normalizer"] = {"type": "Sequence", "normalizers": [step, *([normalizer] if normalizer else [])]}
    yield Tokenizer.from_str(json.dumps(content))


def _in_front(processor: dict[str, Any], entries: dict[str, Any]) -> dict[str, Any]:
    """Return a post-processor that also adds the entries, directly in front of the text."""
    match processor:
        case {"type": "Sequence", "processors": [*steps]}:
            templates = [i for i, step in enumerate(steps) if step["type"] != "ByteLevel"]
            if templates:
                steps[templates[-1]] = _in_front(steps[templates[-1]], entries)
            else:
                steps.append(_in_front(_NOTHING_ADDED, entries))
            return processor | {"processors": steps}
        case {"type": "ByteLevel"}:
            return {"type": "Sequence", "processors": [processor, _in_front(_NOTHING_ADDED, entries)]}
        case {"type": "BertProcessing" | "RobertaProcessing"}:
            (sep, sep_id), (cls, cls_id) = processor["sep"], processor["cls"]
            special = {
                token: {"id": token, "ids": [i], "tokens": [token]} for token, i in ((cls, cls_id), (sep, sep_id))
            }
            template = _template([_piece(cls), _TEXT, _piece(sep)], special)
            return _in_front(template, entries)
        case {"type": "TemplateProcessing"}:
            single: list[dict[str, Any]] = processor["single"]
            text = next(i for i, piece in enumerate(single) if "Sequence" in piece)
            single = [*single[:text], *map(_piece, entries), *single[text:]]
            return _template(single, processor["special_tokens"] | entries)
    raise ModelSourceError(f"a tokenizer that adds special tokens by {processor['type']}; export with --prompt ''")


def _piece(name: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": name, "type_id": 0}}


def _template(single: list[dict[str, Any]], special: dict[str, Any]) -> dict[str, Any]:
    # The pair template is never used; it must name both texts.
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
