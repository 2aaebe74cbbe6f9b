"""Reading of a tokenizer file: nothing in it runs before it is checked.

tokenizers compiles regular expressions and normalizes added tokens while it reads a file, so a check afterwards would
come too late. The components are parsed here, checked, and handed over. Only the model is read unparsed, because its
vocabulary makes up nearly all of the file: it is restored from its state, as pickle does. The decoder, truncation and
padding are never used and left out.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE

from flipkd_sdk.artifact import strict_json
from flipkd_sdk.errors import ExecutionError, MatcherDirectoryError
from flipkd_sdk.runtimes.encoding.tokenizer_limits import (
    ADDED_TOKEN_FLAGS,
    check_components,
    check_model,
    check_unigram,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MODEL_KEY = re.compile(rb'"model"\s*:\s*(?=\{)')
_BEFORE_MODEL = frozenset(
    ("truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder")
)
"""Keys that the tokenizers library writes before the model, which is the last key."""
_KIND = re.compile(rb'\{\s*"type"\s*:\s*"(BPE|Unigram|WordLevel|WordPiece)"')
_NO_MODEL = {"type": "WordLevel", "vocab": {}, "unk_token": ""}


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer file that was checked against the manifest.

    Raises:
        MatcherDirectoryError: it is malformed, the installed ``tokenizers`` cannot read it, or it contains a component
            that is not accepted.
    """
    content = path.read_bytes()
    try:
        components, model = _split(content)
        check_components(components)
        kind = _kind(model)
        if kind == "Unigram":
            # Loading it takes memory for every character of every token.
            check_unigram(strict_json.parse(model))
        tokenizer = _built(components, model)
        check_model(tokenizer.model, kind)
    except (ValueError, RecursionError) as error:
        raise MatcherDirectoryError(f"{path}: {error}; export a student with another tokenizer") from error
    except ExecutionError as error:
        raise MatcherDirectoryError(
            f"{path}: this release of tokenizers cannot read it ({error}); upgrade tokenizers"
        ) from error
    return tokenizer


@contextlib.contextmanager
def failures_named(what: str) -> Iterator[None]:
    """Turn every error that tokenizers raises into an `ExecutionError`.

    Its panics, such as a regular expression that gives up, are no `Exception`, and their class cannot be imported.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ExecutionError(f"{what} ({' '.join(str(error).split())})") from error


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the parsed components but the model, and the model's JSON.

    Raises:
        ValueError: the content is not a JSON object with a model.
        RecursionError: it is nested too deeply.
    """
    found = _MODEL_KEY.search(content)
    if found is not None:
        with contextlib.suppress(ValueError):
            components: Any = strict_json.parse(content[: found.end()] + b"null}")
            if isinstance(components, dict) and components.keys() >= _BEFORE_MODEL:
                # If anything follows the model, its state has trailing characters and is refused.
                return components, content[found.end() :].rstrip(b" \t\r\n").removesuffix(b"}")
    # Parsing the vocabulary takes time, so only a file in another order than tokenizers writes is parsed in full.
    components = strict_json.parse(content)
    model = components.pop("model", None) if isinstance(components, dict) else None
    if not isinstance(model, dict):
        raise ValueError("no JSON object with a model")  # noqa: TRY004 - wrong content, not a wrong argument
    kind = {"type": model.pop("type", None)}
    return components, json.dumps(kind | model).encode()


def _kind(model: bytes) -> str:
    """Return the kind of a model from the start of its JSON.

    Raises:
        ValueError: it does not start with a known kind.
    """
    found = _KIND.match(model)
    if found is None:
        raise ValueError("model: its first parameter must be its type: BPE, Unigram, WordLevel or WordPiece")
    return found[1].decode()


def _built(components: dict[str, Any], model: bytes) -> Tokenizer:
    """Build a tokenizer of checked components.

    Raises:
        ExecutionError: tokenizers refuses a component.
    """
    used = {name: components.get(name) for name in ("normalizer", "pre_tokenizer", "post_processor")}
    empty = {"version": components.get("version", "1.0"), "added_tokens": [], **used, "model": _NO_MODEL}
    with failures_named("tokenizers refuses it"):
        tokenizer = Tokenizer.from_str(json.dumps(empty))
        loaded = BPE()
        loaded.__setstate__(model)  # a model of any kind
        tokenizer.model = loaded
        tokenizer.add_tokens(
            [
                AddedToken(token["content"], **{flag: token[flag] for flag in ADDED_TOKEN_FLAGS})
                for token in components.get("added_tokens") or ()
            ]
        )
    return tokenizer
