"""The student: a decoder-only LLM cut at the encoder site, LoRA on its linear layers, read as an encoder.

Blocks above the site cannot influence the text vector, so they are not loaded. In the site's own block the site alone
gets an adapter, because nothing else of that block is run. Training of the LLM's own answer (L_lm) loads the full model
with adapters on all its linear layers. The result is a plain PEFT adapter, which fits the full model as well.
"""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, cast, overload

from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from flipkd_sdk.errors import ConfigError, ModelSourceError, TrainingError
from flipkd_sdk.training.models.blocks import (
    LLM,
    cut_blocks,
    find_blocks,
    find_site,
    linear_names,
    other_site,
    refuse_short_window,
    site_name,
)
from flipkd_sdk.training.models.pretrained import read_model, read_text_config, read_tokenizer
from flipkd_sdk.training.models.readout import site_input, text_vectors
from flipkd_sdk.training.models.static import StaticStudent
from flipkd_sdk.training.models.weights import read_weights, readable

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flipkd_sdk.training.config.schema import StudentConfig


class Student(nn.Module):
    """An LLM with adapters, as an encoder of texts.

    Args:
        model: the adapted LLM.
        options: encoder site, pooling and attention.
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
        """Return unit vectors, float32 (batch, r), of token ids and mask, int64 (batch, seq).

        With prompts, return their `next_token_logits` as well: a model that is trained in several processes may be
        called only once a step.
        """
        vectors = self.vectors(self.hidden_states(input_ids, attention_mask), attention_mask)
        if prompt_ids is None or prompt_mask is None:
            return vectors
        return vectors, self.next_token_logits(prompt_ids, prompt_mask)

    def next_token_logits(self, prompt_ids: Tensor, prompt_mask: Tensor) -> Tensor:
        """Return the full model's logits after each prompt, (batch, vocabulary), for prompts padded on the left.

        The decoder path is always causal, as the LLM was pretrained.
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

    def vectors(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the unit vectors of hidden states, (batch, r)."""
        return text_vectors(hidden, self.encoder_weight, attention_mask, pooling=self.options.pooling)

    def merged(self) -> Student:
        """Return a copy with merged adapters, in evaluation mode."""
        # One product instead of three in each adapted layer; in a copy, because to take it back would round.
        copied = copy.deepcopy(self).eval()
        copied.model.merge_adapter()
        return copied

    def embed(self, ids: Tensor) -> Tensor:
        """Return the token embeddings as the first block gets them, (…, e)."""
        model = cast("PreTrainedModel", self.model.get_base_model())
        return model.get_input_embeddings()(ids)  # type: ignore[no-any-return]

    def save(self, directory: Path) -> None:
        """Write the adapters as a PEFT checkpoint."""
        self.model.save_pretrained(str(directory))

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the input of the encoder site, (batch, seq, hidden)."""
        model = cast("PreTrainedModel", self.model.get_base_model())
        return site_input(
            model.base_model, self.site, input_ids, attention_mask, attention=self.options.attention, stop=True
        )


AnyStudent = Student | StaticStudent


def create_student(location: str, config: StudentConfig, *, full_model: bool = False) -> Student:
    """Load the LLM up to the encoder site with new adapters.

    Args:
        location: the LLM's directory.
        config: the student's options.
        full_model: load and adapt the blocks above the site too, for the decoder path.

    Raises:
        ModelSourceError: there is no such model, or it is not a decoder-only LLM.
        ConfigError: the site does not exist in it, or its attention window is shorter than ``max_length``.
    """
    config = locate(location, config)
    refuse_short_window(location, config)
    base = load_base(location, config, full_model=full_model)
    if config.gradient_checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    return Student(get_peft_model(base, _lora_config(base, config, full_model=full_model)), config)


def load_student(location: str, adapter: Path, config: StudentConfig, *, full_model: bool = False) -> Student:
    """Load the LLM up to the encoder site, or the full model, with trained adapters, in evaluation mode.

    Raises:
        ModelSourceError: the base model is missing.
        TrainingError: the adapter is damaged or does not fit it.
    """
    config = locate(location, config)
    base = load_base(location, config, full_model=full_model)
    # The options of the run decide what is adapted; peft would follow adapter_config.json into other modules.
    file = adapter / "adapter_model.safetensors"
    trained_fully = _adapts_more_than_the_site(file, base, config)
    settings = _lora_config(base, config, full_model=trained_fully)
    _check_settings(adapter / "adapter_config.json", settings)
    student = Student(get_peft_model(base, settings), config)
    expected = get_peft_model_state_dict(student.model, save_embedding_layers=False)
    weights = read_weights(file, expected, more=trained_fully and not full_model)
    set_peft_model_state_dict(student.model, weights)
    return student.requires_grad_(requires_grad=False).eval()


def _adapts_more_than_the_site(file: Path, base: PreTrainedModel, config: StudentConfig) -> bool:
    """Return whether the site's block has further adapters, as after training the full model.

    The site's input may depend on them: that of ``o_proj`` on those of ``q_proj``.
    """
    with readable(file), safe_open(file, framework="pt") as content:
        names = list(content.keys())
    block, site = f".{find_blocks(base)[0]}.{config.layer}.", f".{site_name(base, config)}."
    return any(block in name and site not in name for name in names)


def _check_settings(file: Path, settings: LoraConfig) -> None:
    with readable(file):
        content = dict(json.loads(file.read_text(encoding="utf-8")))
    for key in ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "fan_in_fan_out"):
        if content.get(key) != (value := getattr(settings, key)):
            raise TrainingError(f"{file}: {key} is {content.get(key)!r}, and the run's options make it {value!r}")


def load_tokenizer(location: str) -> PreTrainedTokenizerBase:
    """Load the model's fast tokenizer, with padding on the right.

    Raises:
        ModelSourceError: there is none, or only a slow one, which cannot be shipped as ``tokenizer.json``.
    """
    tokenizer = read_tokenizer(location, padding_side="right")
    if not tokenizer.is_fast:
        raise ModelSourceError(f"{location}: its tokenizer has no fast version, so it cannot be exported")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.bos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def locate(location: str, config: StudentConfig) -> StudentConfig:
    """Return the options with the encoder site's block counted from the first one.

    Raises:
        ModelSourceError: there is no such model.
        ConfigError: it has no such block.
    """
    depth = read_text_config(location, LLM).num_hidden_layers
    if config.layer >= depth:
        raise ConfigError(f"student.layer = {config.layer}: {location} has blocks 0 to {depth - 1}")
    return config if config.layer >= 0 else config.model_copy(update={"layer": depth + config.layer})


def load_base(location: str, config: StudentConfig, *, full_model: bool = False) -> PreTrainedModel:
    """Load the blocks up to the encoder site's, or all of them, in float32 and frozen.

    Raises:
        ModelSourceError: there is no such model, or it is not a decoder-only LLM.
        ConfigError: the site does not exist in it.
    """
    config = locate(location, config)
    cut = read_text_config(location, LLM)
    if not full_model:
        cut_blocks(cut, config.layer + 1)
    # Without the decoder path nothing reads the head.
    unused = () if full_model else ("lm_head",)
    model = read_model(AutoModelForCausalLM, location, LLM, config=cut, unused=unused)
    try:
        find_site(model, config)
    except ConfigError as error:
        raise ConfigError(f"{error}; {other_site(location, config)}") from None
    return model.requires_grad_(requires_grad=False)


def _lora_config(base: PreTrainedModel, config: StudentConfig, *, full_model: bool) -> LoraConfig:
    prefix, blocks = find_blocks(base)
    depth = len(blocks) if full_model else config.layer
    site = site_name(base, config)
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
