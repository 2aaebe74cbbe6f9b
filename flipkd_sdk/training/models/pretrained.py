"""Reading of model directories by transformers: no code of the directory runs, nothing is asked or downloaded."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from flipkd_sdk.errors import FlipKDError, ModelSourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import (
        AutoModel,
        AutoModelForCausalLM,
        PreTrainedConfig,
        PreTrainedModel,
        PreTrainedTokenizerBase,
    )

_ATTENTION = (None, "eager", "sdpa")
_LANGUAGE_KEYS = {
    r"^language_model\.lm_head\.": "lm_head.",
    r"^(?:model\.)?language_model\.(?!lm_head)(?:model\.)?": "model.",
}
"""Names of weights in multimodal models, and in their language parts alone."""
_ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")


def read_config(location: str, what: str) -> PreTrainedConfig:
    """Read a model directory's configuration.

    Args:
        location: a directory.
        what: the kind of model that error messages name.

    Raises:
        ModelSourceError: there is no such model, or it needs code that transformers does not contain.
    """
    from transformers import AutoConfig

    _refuse_foreign(Path(location))
    with loading(location, what):
        config: PreTrainedConfig = AutoConfig.from_pretrained(location, trust_remote_code=False, local_files_only=True)
    return config


def read_text_config(location: str, what: str) -> PreTrainedConfig:
    """Read the configuration of a model's language part, which is the whole model unless it is multimodal.

    Raises:
        ModelSourceError: see `read_config`.
    """
    config = read_config(location, what)
    with loading(location, what):
        return config.get_text_config()


def read_model(
    auto: type[AutoModel | AutoModelForCausalLM],
    location: str,
    what: str,
    *,
    config: PreTrainedConfig | None = None,
    unused: tuple[str, ...] = (),
) -> PreTrainedModel:
    """Load a model directory in float32.

    Args:
        auto: a class such as ``AutoModel`` of transformers.
        location: a directory.
        what: the kind of model that error messages name.
        config: a configuration to use instead of the directory's, such as that of its language part.
        unused: parts of the names of weights that the directory need not contain.

    Raises:
        ModelSourceError: there is no such model, it needs code that transformers does not contain, or weights are
            missing, NaN or infinite.
    """
    whole = read_config(location, what)
    config = config or whole
    language_part = config.model_type != whole.model_type
    with loading(location, what):
        loaded: Any = auto.from_pretrained(
            location,
            config=config,
            dtype=torch.float32,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **({"key_mapping": _LANGUAGE_KEYS} if language_part else {}),
        )
        model, report = loaded
        # transformers starts missing weights at random and only logs it.
        missing = [name for name in sorted(report["missing_keys"]) if not any(part in name for part in unused)]
        if missing:
            raise ModelSourceError(f"{location}: {len(missing)} weights are missing, such as {missing[0]}")
        for name, weight in model.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                raise ModelSourceError(f"{location}: {name} contains NaN or infinite values")
    return cast("PreTrainedModel", model)


def read_tokenizer(location: str, what: str = "a tokenizer", **options: str) -> PreTrainedTokenizerBase:
    """Load a model directory's tokenizer.

    Args:
        location: a directory.
        what: the kind of model that error messages name.
        options: for ``AutoTokenizer.from_pretrained``.

    Raises:
        ModelSourceError: there is none, or it needs code that transformers does not contain.
    """
    from transformers import AutoTokenizer

    _refuse_foreign(Path(location))
    with loading(location, what):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            location, trust_remote_code=False, local_files_only=True, **options
        )
    return tokenizer


@contextmanager
def loading(location: str, what: str) -> Iterator[None]:
    """Turn what transformers raises while it loads a model into a `ModelSourceError` of one line."""
    try:
        yield
    except FlipKDError:
        raise
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise ModelSourceError(
                f"{location}: {what} that needs Python code of its own (auto_map in its configuration), which is never "
                "run; choose a model of a family that transformers contains"
            ) from None
        raise ModelSourceError(f"{location}: cannot be loaded as {what}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not empty, else its type's name."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)


def _refuse_foreign(directory: Path) -> None:
    """Raise if a directory would make transformers fetch code or weights from elsewhere."""
    if (directory / "adapter_config.json").is_file():
        raise ModelSourceError(
            f"{directory / 'adapter_config.json'}: a model with an adapter beside it; merge the adapter into the model"
        )
    file = directory / "config.json"
    if not file.is_file():
        return
    with loading(str(file), "JSON"):
        for key, value in _entries(json.loads(file.read_text(encoding="utf-8"))):
            # Any other value names a package of kernels on the hub, which transformers would download and run.
            if key in _ATTENTION_KEYS and value not in _ATTENTION:
                raise ModelSourceError(f"{file}: {key} = {value!r}: only 'eager' and 'sdpa' are supported; remove it")


def _entries(content: object) -> Iterator[tuple[str, object]]:
    if isinstance(content, dict):
        yield from content.items()
        content = list(content.values())
    if isinstance(content, list):
        for value in content:
            yield from _entries(value)
