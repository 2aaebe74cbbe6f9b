"""The student: a decoder-only LLM cut at the encoder site, LoRA on its linear layers, read as an encoder.

Blocks above the site cannot influence the text vector, so they are not loaded. In the site's own block the site alone
gets an adapter; nothing else of that block is ever run. Where the LLM's own answer is trained too (L_lm), the whole LLM
is loaded, with adapters on all its linear layers. What is trained is a plain PEFT adapter: it loads onto the whole LLM
as well.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, cast, overload

import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from flipkd_sdk.errors import ConfigError, ModelSourceError, TrainingError
from flipkd_sdk.training.models.pretrained import loading, read_model, read_text_config, read_tokenizer
from flipkd_sdk.training.models.readout import site_input, text_vectors
from flipkd_sdk.training.models.weights import read_weights, readable

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from flipkd_sdk.training.config.schema import StudentConfig

_WHAT = "a decoder-only LLM"


class Student(nn.Module):
    """An LLM with adapters, as an encoder of texts.

    Args:
        model: the adapted LLM.
        options: which adapter is the encoder, how its output is pooled, and what a token may attend to.
    """

    def __init__(self, model: PeftModel, options: StudentConfig) -> None:
        super().__init__()
        self.model = model
        self.options = options

    @property
    def site(self) -> nn.Module:
        """The adapted linear layer whose ``lora_A`` is the encoder."""
        return find_site(self.model.get_base_model(), self.options)

    @property
    def encoder_weight(self) -> Tensor:
        """A of the encoder site, shape (r, in)."""
        encoder: Tensor = self.site.get_submodule("lora_A.default").weight  # type: ignore[assignment]
        return encoder

    @overload
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor: ...

    @overload
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, prompt_ids: Tensor, prompt_mask: Tensor
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        prompt_ids: Tensor | None = None,
        prompt_mask: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Token ids and mask, int64 (batch, seq) → unit vectors, float32 (batch, r).

        With prompts also what `next_token_logits` says of them, in the same pass: a model that is trained in several
        processes may be called once a step only.
        """
        hidden = self.hidden_states(input_ids, attention_mask)
        vectors = text_vectors(hidden, self.encoder_weight, attention_mask, pooling=self.options.pooling)
        if prompt_ids is None or prompt_mask is None:
            return vectors
        return vectors, self.next_token_logits(prompt_ids, prompt_mask)

    def next_token_logits(self, prompt_ids: Tensor, prompt_mask: Tensor) -> Tensor:
        """The whole LLM's logits after each prompt, (batch, vocabulary), for prompts padded on the left.

        The decoder path is causal whatever the encoder path is: it is the LLM as it was pretrained.
        """
        model = cast("PreTrainedModel", self.model.get_base_model())
        output = model(
            input_ids=prompt_ids,
            attention_mask=prompt_mask,
            position_ids=(prompt_mask.cumsum(dim=1) - 1).clamp(min=0),
            logits_to_keep=1,
            use_cache=False,
        )
        return output.logits[:, -1]  # type: ignore[no-any-return]

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """What reaches the encoder site: (batch, seq, hidden)."""
        model = cast("PreTrainedModel", self.model.get_base_model())
        return site_input(
            model.base_model, self.site, input_ids, attention_mask, attention=self.options.attention, stop=True
        )


def create_student(location: str, config: StudentConfig, *, whole: bool = False) -> Student:
    """Load the LLM up to the encoder site and put fresh adapters on it.

    Args:
        location: the LLM's directory.
        config: the student's options.
        whole: load and adapt the blocks above the site too, for the decoder path.

    Raises:
        ModelSourceError: there is no such model, or it is not a decoder-only LLM.
        ConfigError: the site does not exist in it, or its attention window is shorter than ``max_length``.
    """
    config = locate(location, config)
    _refuse_short_window(location, config)
    base = load_base(location, config, whole=whole)
    if config.gradient_checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    return Student(get_peft_model(base, _lora_config(base, config, whole=whole)), config)


def load_student(location: str, adapter: Path, config: StudentConfig, *, whole: bool = False) -> Student:
    """Load the LLM up to the encoder site, or the whole of it, with trained adapters, in evaluation mode.

    Raises:
        ModelSourceError: the base model is missing.
        TrainingError: the adapter is damaged or does not fit it.
    """
    config = locate(location, config)
    base = load_base(location, config, whole=whole)
    # The options of the run decide what is adapted; peft would follow adapter_config.json into other modules.
    settings = _lora_config(base, config, whole=whole)
    _check_settings(adapter / "adapter_config.json", settings)
    student = Student(get_peft_model(base, settings), config)
    expected = get_peft_model_state_dict(student.model, save_embedding_layers=False)
    weights = read_weights(adapter / "adapter_model.safetensors", expected, more=not whole)
    set_peft_model_state_dict(student.model, weights)
    return student.requires_grad_(requires_grad=False).eval()


def _check_settings(file: Path, settings: LoraConfig) -> None:
    with readable(file):
        content = dict(json.loads(file.read_text(encoding="utf-8")))
    for key in ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "fan_in_fan_out"):
        if content.get(key) != (value := getattr(settings, key)):
            raise TrainingError(f"{file}: {key} is {content.get(key)!r}, and the run's options make it {value!r}")


def load_tokenizer(location: str) -> PreTrainedTokenizerBase:
    """The model's fast tokenizer, padding on the right.

    Raises:
        ModelSourceError: there is none, or only a slow one, which cannot be shipped as ``tokenizer.json``.
    """
    tokenizer = read_tokenizer(location, padding_side="right")
    if not tokenizer.is_fast:
        raise ModelSourceError(f"{location}: its tokenizer has no fast version, so it cannot be exported")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.bos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def empty_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that stands for a text without tokens of its own: BOS, else EOS, else padding."""
    for token_id in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        if isinstance(token_id, int):
            return token_id
    return 0


def locate(location: str, config: StudentConfig) -> StudentConfig:
    """The options with the encoder site's block counted from the first one.

    Raises:
        ModelSourceError: there is no such model.
        ConfigError: it has no such block.
    """
    depth = read_text_config(location, _WHAT).num_hidden_layers
    if config.layer >= depth:
        raise ConfigError(f"student.layer = {config.layer}: {location} has blocks 0 to {depth - 1}")
    return config if config.layer >= 0 else config.model_copy(update={"layer": depth + config.layer})


def load_base(location: str, config: StudentConfig, *, whole: bool = False) -> PreTrainedModel:
    """Load the blocks up to and with the encoder site's, or all of them, in float32, frozen.

    Raises:
        ModelSourceError: there is no such model, or it is not a decoder-only LLM.
        ConfigError: the site does not exist in it.
    """
    config = locate(location, config)
    cut = read_text_config(location, _WHAT)
    if not whole:
        _cut(cut, config.layer + 1)
    # Without the decoder path nothing reads the head.
    unused = () if whole else ("lm_head",)
    model = read_model(AutoModelForCausalLM, location, _WHAT, config=cut, unused=unused)
    try:
        find_site(model, config)
    except ConfigError as error:
        raise ConfigError(f"{error}; {_other_site(location, config)}") from None
    return model.requires_grad_(requires_grad=False)


def _cut(config: PreTrainedConfig, depth: int) -> None:
    """Cut a configuration after a number of blocks, in place."""
    blocks = config.num_hidden_layers
    # The last blocks of some families (Gemma 3n, Gemma 4) share their keys and values; the first one of them stays it.
    if shared := getattr(config, "num_kv_shared_layers", None):
        config.num_kv_shared_layers = max(0, depth - (blocks - shared))
    config.num_hidden_layers = depth
    if kinds := getattr(config, "layer_types", None):
        config.layer_types = kinds[:depth]


def _refuse_short_window(location: str, config: StudentConfig) -> None:
    """Raise if a block below the site looks at fewer tokens than a text may have.

    The mask of `attention_bias` lets each token look at all others, which is exact only for texts within the window.
    """
    settings = read_text_config(location, _WHAT)
    kinds = (getattr(settings, "layer_types", None) or ["sliding_attention"])[: config.layer]
    for kind, option in (("sliding_attention", "sliding_window"), ("chunked_attention", "attention_chunk_size")):
        window = getattr(settings, option, None)
        if kind in kinds and window and config.max_length > window:
            raise ConfigError(
                f"student.max_length = {config.max_length}: block {kinds.index(kind)} of {location} looks at windows "
                f"of {window} tokens; set student.max_length = {window} or less"
            )


def _other_site(location: str, config: StudentConfig) -> str:
    """Return the advice for a block without the named linear layer: the nearest block that has it."""
    settings = read_text_config(location, _WHAT)
    with loading(location, _WHAT), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(settings, trust_remote_code=False)
    having = [i for i, block in enumerate(find_blocks(model)[1]) if len(_matching(block, config.module)) == 1]
    above = [i for i in having if i > config.layer] or having[-1:]
    return (
        f"the next block with exactly one is {above[0]}" if above else "no block has exactly one; name another module"
    )


def find_site(model: nn.Module, config: StudentConfig) -> nn.Module:
    """The linear layer named by the configuration, plain or adapted.

    Raises:
        ConfigError: the block has no such layer, or several; the message lists those it has.
    """
    return model.get_submodule(_site_name(model, config))


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The list of decoder blocks and its path, whatever the family calls it.

    Raises:
        ModelSourceError: there is no list of ``num_hidden_layers`` blocks.
    """
    depth = model.config.num_hidden_layers  # type: ignore[union-attr]
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth and linear_names(module):
            return path, module
    raise ModelSourceError(f"{type(model).__name__}: no list of {depth} decoder blocks with linear layers inside")


def linear_names(module: nn.Module) -> list[str]:
    """Paths of the linear layers inside a module (GPT-2's ``Conv1D`` is one as well), adapted ones included."""
    plain = (nn.Linear, Conv1D)
    return [
        path
        for path, child in module.named_modules()
        if (isinstance(child, plain) or hasattr(child, "base_layer")) and not re.search(r"(base_layer|lora_\w+)", path)
    ]


def _site_name(model: nn.Module, config: StudentConfig) -> str:
    prefix, blocks = find_blocks(model)
    names = _matching(blocks[config.layer], config.module)
    if len(names) != 1:
        raise ConfigError(
            f"student.module = {config.module!r}: {'several' if names else 'none'} of the linear layers of block "
            f"{config.layer}, which are {', '.join(linear_names(blocks[config.layer]))}"
        )
    return f"{prefix}.{config.layer}.{names[0]}"


def _matching(block: nn.Module, module: str) -> list[str]:
    """Return the paths of the block's linear layers that end in a name."""
    return [path for path in linear_names(block) if f".{path}".endswith(f".{module}")]


def _lora_config(base: PreTrainedModel, config: StudentConfig, *, whole: bool) -> LoraConfig:
    prefix, blocks = find_blocks(base)
    depth = len(blocks) if whole else config.layer
    site = _site_name(base, config)
    adapted = [f"{prefix}.{index}.{name}" for index in range(depth) for name in linear_names(blocks[index])]
    rank = config.site_rank or config.rank
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # peft says int, and divides it as a float
        # A list would match by suffix, and block 1 would take block 11 with it.
        target_modules="|".join(re.escape(name) for name in dict.fromkeys([*adapted, site])),
        rank_pattern={f"^{re.escape(site)}$": rank},
        alpha_pattern={f"^{re.escape(site)}$": config.alpha * rank / config.rank},
        lora_dropout=0.0,
        fan_in_fan_out=isinstance(base.get_submodule(site), Conv1D),
    )
