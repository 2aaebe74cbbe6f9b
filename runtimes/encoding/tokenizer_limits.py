"""Allow-list of what a tokenizer file may contain: component kinds, their parameters and their number.

A tokenizer is data, but its components rewrite texts: a step that doubles a text, repeated forty times, ends the
process. The list has every component kind of Llama, SmolLM, Qwen, Mistral, GPT-2, GLM, Gemma, BERT, RoBERTa, T5, XLM-R
and ModernBERT. The numbers are chosen so that no combination makes a text much longer than NFKC can, which is 18 times.
"""

# ruff: noqa: TRY004 - the content of a file is wrong, not the type of an argument
from __future__ import annotations

import binascii
from collections import Counter
from typing import TYPE_CHECKING, Any

from flipkd_sdk.runtimes.encoding.pattern_limits import refuse_slow_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Checks = Mapping[str, Callable[[Any], None]]

_MAX_STEPS = 32
_MAX_DEPTH = 4
_MAX_AFFIX = 16
"""Most characters of a prefix, a suffix or a delimiter."""
_MAX_REPLACEMENT = 4
_MAX_CHARSMAP_BYTES = 36
"""Most bytes that a SentencePiece table may put in the place of a character; Unicode's NFKC needs 33."""
_MAX_PIECES = 16
_MAX_WORD = 256
"""Most characters of a word that WordPiece splits, in cubic time; BERT's limit is 100."""
_MAX_ADDED_TOKENS = 1 << 15
"""Five times as many as Gemma's."""
_MAX_ADDED_CHARACTERS = 1 << 19
_MAX_UNIGRAM_TOKEN = 256
_MAX_UNIGRAM_BYTES = 1 << 23
"""Three times as many as XLM-R's; each may cost some hundred bytes of memory."""
_MAX_SCORE = 1e9

ADDED_TOKEN_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_WIDENING = {"ByteLevel": "ByteLevel", "Precompiled": "Precompiled", "NFKC": "NFKC/NFKD", "NFKD": "NFKC/NFKD"}
"""Normalizers that put many characters in the place of one, named by what they do; a `Replace` can be another."""
_ONCE = ("BertNormalizer", "ByteLevel", "Precompiled", "Prepend")


def check_components(components: Mapping[str, object]) -> None:
    """Check every part of a parsed tokenizer file but the model.

    Raises:
        ValueError: a part is not on the list; the message names it.
    """
    _check_added_tokens(components.get("added_tokens"))
    normalizers = list(_checked(components.get("normalizer"), "normalizer", "normalizers", _NORMALIZERS))
    widening = {"Replace" if _grows(step) else _WIDENING.get(step["type"]) for step in normalizers} - {None}
    if len(widening) > 1:
        raise ValueError(f"normalizer: {' and '.join(sorted(map(str, widening)))} make texts longer; one may")
    if sum(map(_grows, normalizers)) > 1:
        raise ValueError("normalizer: several steps of kind Replace make texts longer; one may")
    _check_number("normalizer", normalizers, dict.fromkeys(_ONCE, 1))
    pre_tokenizers = list(_checked(components.get("pre_tokenizer"), "pre_tokenizer", "pretokenizers", _PRE_TOKENIZERS))
    _check_number("pre_tokenizer", pre_tokenizers, {"ByteLevel": 1, "Metaspace": 2})
    processors = list(_checked(components.get("post_processor"), "post_processor", "processors", _PROCESSORS))
    _check_number("post_processor", processors, dict.fromkeys(_PROCESSORS, 1))


def check_model(model: Any, kind: str) -> None:  # noqa: ANN401 - the base class declares no parameters
    """Check the parameters of a loaded model.

    Raises:
        ValueError: it is of another kind, or a parameter is outside its limit; the message names it.
    """
    if type(model).__name__ != kind:
        raise ValueError(f"model {kind}: it was read as a model of kind {type(model).__name__}")
    if getattr(model, "dropout", None):
        raise ValueError("model BPE: splits words at random (dropout), so a text would have no one score")
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        _check_length(f"model {kind}: {name}", getattr(model, name, None) or "")
    longest = getattr(model, "max_input_chars_per_word", 0)
    if longest > _MAX_WORD:
        raise ValueError(f"model {kind}: max_input_chars_per_word {longest}; at most {_MAX_WORD} is accepted")


def check_unigram(model: Any) -> None:  # noqa: ANN401 - parsed JSON
    """Check the parsed vocabulary of a Unigram model, before it is loaded.

    Raises:
        ValueError: a token or its score is outside the limits.
    """
    size = 0
    vocabulary = model.get("vocab")
    for entry in vocabulary if isinstance(vocabulary, list) else [None]:
        match entry:
            case [str(token), int() | float() as score] if abs(score) <= _MAX_SCORE:
                if len(token) > _MAX_UNIGRAM_TOKEN:
                    raise ValueError(
                        f"model Unigram: a token of {len(token)} characters; at most {_MAX_UNIGRAM_TOKEN} are accepted"
                    )
                size += len(token.encode("utf-8", "surrogatepass"))
            case _:
                raise ValueError("model Unigram: its vocabulary is not a list of tokens with finite scores")
    if size > _MAX_UNIGRAM_BYTES:
        raise ValueError(f"model Unigram: {size} bytes of tokens; at most {_MAX_UNIGRAM_BYTES} are accepted")


def _checked(component: object, place: str, inner: str, kinds: Mapping[str, Checks]) -> list[dict[str, Any]]:
    """Return the steps of a component, sequences unpacked, once all of them are on the list."""
    steps = list(_unpacked(component, place, inner))
    if len(steps) > _MAX_STEPS:
        raise ValueError(f"{place}: {len(steps)} steps; at most {_MAX_STEPS} are accepted")
    for step in steps:
        kind = step.get("type")
        checks = kinds.get(kind) if isinstance(kind, str) else None
        if checks is None:
            raise ValueError(f"{place}: the kind {ascii(kind)[:60]} is not accepted")
        for name, value in step.items():
            if name == "type":
                continue
            if name not in checks:
                raise ValueError(f"{place} {kind}: unknown parameter {ascii(name)[:60]}")
            try:
                checks[name](value)
            except ValueError as error:
                raise ValueError(f"{place} {kind}: {name}: {error}") from None
    return steps


def _unpacked(component: object, place: str, inner: str, depth: int = 0) -> Iterator[dict[str, Any]]:
    if component is None:
        return
    if not isinstance(component, dict):
        raise ValueError(f"{place}: not an object")
    if component.get("type") != "Sequence":
        yield component
        return
    steps = component.get(inner)
    if component.keys() != {"type", inner} or not isinstance(steps, list) or None in steps:
        raise ValueError(f"{place} Sequence: its only parameter must be a list, {inner}")
    if depth == _MAX_DEPTH:
        raise ValueError(f"{place} Sequence: nested more than {_MAX_DEPTH} deep")
    if len(steps) > _MAX_STEPS:
        raise ValueError(f"{place} Sequence: {len(steps)} steps; at most {_MAX_STEPS} are accepted")
    for step in steps:
        yield from _unpacked(step, place, inner, depth + 1)


def _check_number(place: str, steps: list[dict[str, Any]], most: Mapping[str, int]) -> None:
    for kind, number in Counter(step["type"] for step in steps).items():
        if number > most.get(kind, _MAX_STEPS):
            raise ValueError(f"{place}: {number} steps of kind {kind}; at most {most[kind]} are accepted")


def _grows(step: Mapping[str, Any]) -> bool:
    """Return True for a `Replace` that puts more characters than it removes."""
    if step["type"] != "Replace":
        return False
    return len(step.get("content", "")) > len(step.get("pattern", {}).get("String", " "))


def _check_added_tokens(tokens: object) -> None:
    if tokens is None:
        return
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise ValueError("added_tokens: not a list of objects")
    if len(tokens) > _MAX_ADDED_TOKENS:
        raise ValueError(f"added_tokens: {len(tokens)} tokens; at most {_MAX_ADDED_TOKENS} are accepted")
    size = 0
    for token in tokens:
        flags = [token.get(flag) for flag in ADDED_TOKEN_FLAGS]
        if not isinstance(token.get("content"), str) or not all(isinstance(flag, bool) for flag in flags):
            raise ValueError(f"added_tokens: a token without content, {', '.join(ADDED_TOKEN_FLAGS)}")
        size += len(token["content"])
    if size > _MAX_ADDED_CHARACTERS:
        raise ValueError(f"added_tokens: {size} characters in all; at most {_MAX_ADDED_CHARACTERS} are accepted")


def _check_length(what: str, text: str, most: int = _MAX_AFFIX) -> None:
    if len(text) > most:
        raise ValueError(f"{what} has {len(text)} characters; at most {most} are accepted")


def _flag(value: object) -> None:
    if value is not None and not isinstance(value, bool):
        raise ValueError("not true, false or null")


def _affix(value: object) -> None:
    if not isinstance(value, str):
        raise ValueError("not a text")
    _check_length("it", value)


def _replacement(value: object) -> None:
    _affix(value)
    _check_length("it", str(value), _MAX_REPLACEMENT)


def _name(value: object) -> None:
    # tokenizers itself refuses a name that it does not know.
    if not isinstance(value, str):
        raise ValueError("not a text")


def _token(value: object) -> None:
    match value:
        case [str(), int()]:
            return
    raise ValueError("not a token and its id")


def _pattern(value: object) -> None:
    match value:
        case {"String": str(text), **others} if text and not others:
            _check_length("it", text, 256)
        case {"Regex": str(expression), **others} if not others:
            refuse_slow_pattern(expression)
        case _:
            raise ValueError("not a text of at least one character and not a regular expression")


def _charsmap(value: object) -> None:
    """Check SentencePiece's table: the size of an index in four bytes, the index, replacements ending in NUL each."""
    if not isinstance(value, str):
        raise ValueError("not a text")
    try:
        content = binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        raise ValueError("not base64") from None
    index_size = int.from_bytes(content[:4], "little")
    replacements = content[4 + index_size :]
    if index_size % 4 or not replacements.endswith(b"\0"):
        raise ValueError("not a table of replacements")
    longest = max(map(len, replacements.split(b"\0")))
    if longest > _MAX_CHARSMAP_BYTES:
        raise ValueError(f"a replacement of {longest} bytes; at most {_MAX_CHARSMAP_BYTES} are accepted")


def _template(value: object) -> None:
    if not isinstance(value, list) or len(value) > _MAX_PIECES:
        raise ValueError(f"not a list of at most {_MAX_PIECES} pieces")
    texts = [piece["Sequence"] for piece in value if isinstance(piece, dict) and piece.keys() == {"Sequence"}]
    names = [text.get("id") if isinstance(text, dict) else None for text in texts]
    if names not in (["A"], ["A", "B"]):
        raise ValueError("each text must occur exactly once")


def _single_template(value: object) -> None:
    _template(value)
    if sum("Sequence" in piece for piece in value if isinstance(piece, dict)) != 1:  # type: ignore[attr-defined]
        raise ValueError("more than one text")


def _special_tokens(value: object) -> None:
    if not isinstance(value, dict) or len(value) > _MAX_STEPS:
        raise ValueError(f"not an object of at most {_MAX_STEPS} tokens")
    for token in value.values():
        for name in ("ids", "tokens"):
            if not isinstance(token, dict) or not isinstance(token.get(name), list) or len(token[name]) > _MAX_PIECES:
                raise ValueError(f"a token without a list of at most {_MAX_PIECES} {name}")


_BYTE_LEVEL: Checks = {"add_prefix_space": _flag, "trim_offsets": _flag, "use_regex": _flag}
_NORMALIZERS: Mapping[str, Checks] = {
    "BertNormalizer": dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), _flag),
    "ByteLevel": {},
    "Lowercase": {},
    "NFC": {},
    "NFD": {},
    "NFKC": {},
    "NFKD": {},
    "Nmt": {},
    "Precompiled": {"precompiled_charsmap": _charsmap},
    "Prepend": {"prepend": _affix},
    "Replace": {"pattern": _pattern, "content": _replacement},
    "Strip": {"strip_left": _flag, "strip_right": _flag},
    "StripAccents": {},
}
_PRE_TOKENIZERS: Mapping[str, Checks] = {
    "BertPreTokenizer": {},
    "ByteLevel": _BYTE_LEVEL,
    "CharDelimiterSplit": {"delimiter": _affix},
    "Digits": {"individual_digits": _flag},
    "Metaspace": {
        "replacement": _affix,
        "str_rep": _affix,
        "prepend_scheme": _name,
        "add_prefix_space": _flag,
        "split": _flag,
    },
    "Punctuation": {"behavior": _name},
    "Split": {"pattern": _pattern, "behavior": _name, "invert": _flag},
    "UnicodeScripts": {},
    "Whitespace": {},
    "WhitespaceSplit": {},
}
_PROCESSORS: Mapping[str, Checks] = {
    "BertProcessing": {"sep": _token, "cls": _token},
    "ByteLevel": _BYTE_LEVEL,
    "RobertaProcessing": {"sep": _token, "cls": _token, "trim_offsets": _flag, "add_prefix_space": _flag},
    "TemplateProcessing": {"single": _single_template, "pair": _template, "special_tokens": _special_tokens},
}
