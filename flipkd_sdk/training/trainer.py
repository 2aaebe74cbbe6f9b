"""One stage of training on transformers' ``Trainer``: any encoder, any objective, the best epoch kept."""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from flipkd_sdk.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import TrainerControl, TrainerState

    from flipkd_sdk.training.batches import PairDataset, TextDataset
    from flipkd_sdk.training.config import StageConfig

    Objective = Callable[[Tensor, Mapping[str, Tensor]], dict[str, Tensor]]
    """(text vectors (batch, r), the batch) → weighted loss terms by name; their sum is minimised."""

_TEXTS = ("input_ids", "attention_mask")
_LOG_STEPS = 20
_GRADIENT_CLIP = 1.0
_WARMUP_SHARE = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """What one stage trains, on what, towards what, and how it is watched."""

    name: str
    model: nn.Module
    """Token ids and mask → unit vectors; with ``prompt_ids`` and ``prompt_mask`` → (unit vectors, logits)."""
    dataset: TextDataset | PairDataset
    objective: Objective
    config: StageConfig
    development: Callable[[], float]
    """Average precision on the development pairs with the model as it stands."""
    run_directory: Path
    """``metrics.jsonl`` in it is appended to."""
    seed: int


def train_stage(stage: Stage) -> list[dict[str, Any]]:
    """Train one stage and leave the model with its best weights by development average precision.

    Returns:
        The stage's records as they stand in ``metrics.jsonl``: loss terms every few steps, ``average_precision`` at the
        start and after each epoch.

    Raises:
        TrainingError: a loss became NaN or infinite; the message says at which step and in which term.
    """
    if stage.config.epochs == 0:
        return []
    watcher = _Watcher(stage)
    _StageTrainer(stage, watcher).train()
    watcher.restore_best()
    return watcher.records


class _StageTrainer(Trainer):
    """Trainer with our objective and with batches of texts of similar length."""

    def __init__(self, stage: Stage, watcher: _Watcher) -> None:
        arguments = TrainingArguments(
            output_dir=str(stage.run_directory),
            per_device_train_batch_size=stage.config.batch_size,
            num_train_epochs=stage.config.epochs,
            learning_rate=stage.config.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=_WARMUP_SHARE,
            weight_decay=0.0,
            max_grad_norm=_GRADIENT_CLIP,
            logging_steps=_LOG_STEPS,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=torch.cuda.is_available(),
            seed=stage.seed,
            data_seed=stage.seed,
        )
        self.stage = stage
        self.terms: dict[str, list[float]] = defaultdict(list)
        super().__init__(
            model=stage.model,
            args=arguments,
            data_collator=stage.dataset.collate,
            train_dataset=stage.dataset,
            callbacks=[watcher],
        )
        self.remove_callback(PrinterCallback)

    def _get_train_sampler(self, train_dataset: object = None) -> LengthGroupedSampler:
        generator = torch.Generator().manual_seed(self.stage.seed)
        lengths = self.stage.dataset.lengths
        return LengthGroupedSampler(self.args.train_batch_size, lengths=lengths, generator=generator)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        if "prompt_ids" in inputs:
            vectors, logits = model(*(inputs[name] for name in (*_TEXTS, "prompt_ids", "prompt_mask")))
            inputs = {**inputs, "logits": logits}
        else:
            vectors = model(*(inputs[name] for name in _TEXTS))
        terms = self.stage.objective(vectors, inputs)
        for name, term in terms.items():
            value = float(term.detach())
            if not math.isfinite(value):
                raise TrainingError(
                    f"stage {self.stage.name!r}, step {self.state.global_step}: the loss term {name!r} became {value}; "
                    "lower the stage's learning_rate"
                )
            self.terms[name].append(value)
        loss = torch.stack(list(terms.values())).sum()
        return (loss, vectors) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each loss term since the last record."""
        if "loss" in logs:
            logs |= {name: statistics.fmean(values) for name, values in self.terms.items()}
            self.terms.clear()
        super().log(logs, start_time)


class _Watcher(TrainerCallback):
    """Writes the records, shows the progress, and remembers the weights of the best epoch."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.records: list[dict[str, Any]] = []
        self.best = -math.inf
        self.best_weights: dict[str, Tensor] = {}
        self.bar: tqdm[Any] | None = None

    def restore_best(self) -> None:
        self.stage.model.load_state_dict(self.best_weights, strict=False)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.bar = tqdm(total=state.max_steps, desc=self.stage.name, unit="step", disable=None, leave=False)
        self._measure(state)  # a stage that only makes things worse leaves the model as it was

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        if logs and "loss" in logs:
            self._record(state, {name: value for name, value in logs.items() if name != "epoch"})

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self._measure(state)
        control.should_log = True  # what is left since the last record, or an epoch of few steps would have none

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def _measure(self, state: TrainerState) -> None:
        self.stage.model.eval()
        average_precision = self.stage.development()
        self.stage.model.train()
        self._record(state, {"average_precision": average_precision})
        if average_precision > self.best:
            self.best = average_precision
            self.best_weights = {
                name: weight.detach().clone()
                for name, weight in self.stage.model.named_parameters()
                if weight.requires_grad
            }

    def _record(self, state: TrainerState, values: dict[str, float]) -> None:
        record = {"stage": self.stage.name, "epoch": round(state.epoch or 0.0, 4), "step": state.global_step, **values}
        self.records.append(record)
        with (self.stage.run_directory / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.bar is not None:
            shown = ("loss", "average_precision")
            self.bar.set_postfix({name: f"{values[name]:.4f}" for name in shown if name in values}, refresh=False)
