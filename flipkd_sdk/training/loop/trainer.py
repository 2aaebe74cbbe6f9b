"""One training stage on transformers' ``Trainer``: any encoder, any objective, the best epoch kept."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers
from accelerate.data_loader import prepare_data_loader
from peft.optimizers import create_loraplus_optimizer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from flipkd_sdk.errors import TrainingError
from flipkd_sdk.training import distributed
from flipkd_sdk.training.loop import checkpoints
from flipkd_sdk.training.loop.callback import StageCallback
from flipkd_sdk.training.loop.trackers import end_run, trackers
from flipkd_sdk.training.models.attention import fastest_attention
from flipkd_sdk.training.models.weights import read_weights
from flipkd_sdk.training.out_of_memory import explain_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from peft import PeftModel
    from torch.optim import Optimizer

    from flipkd_sdk.training.loop.stage import Stage

_LOG_STEPS = 20
_CHECKPOINT_STEPS = 200
_GRADIENT_CLIP = 1.0
_WARMUP_SHARE = 0.05
_ROWS_SHOWN = 16

# `_StageTrainer` overrides private methods of Trainer. If a release renames one, the override would be silently unused:
# checkpoints would contain the frozen weights, or a resumed run would start from other ones.
for _method in ("_save", "_load_from_checkpoint"):
    if not hasattr(Trainer, _method):
        raise ImportError(f"transformers {transformers.__version__}: Trainer has no {_method}; install transformers 5")


def train_stage(stage: Stage) -> list[dict[str, Any]]:
    """Train one stage and leave the model with the weights of its best epoch by ``stage.criterion``.

    Returns:
        The stage's records of ``metrics.jsonl``: loss terms every few steps, the development measures at the start and
        after each epoch.

    Raises:
        TrainingError: a loss became NaN or infinite, or memory ran out; the message names the step and the remedy.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint written.
    """
    if stage.config.epochs == 0:
        return []
    if stage.resume and (finished := checkpoints.read_finished(stage.checkpoints, stage.model)):
        callback = StageCallback(stage, finished)
    else:
        checkpoint = checkpoints.latest_checkpoint(stage.checkpoints) if stage.resume else None
        if checkpoint:
            checkpoints.check_states(checkpoint)
        progress = checkpoints.read_progress(checkpoint, stage.model) if checkpoint else None
        callback = StageCallback(stage, progress)
        if not callback.patience_exhausted:
            _train(stage, callback, checkpoint)
        distributed.barrier()  # Another process may still read or write a checkpoint.
        if distributed.is_main():
            checkpoints.write_finished(stage.checkpoints, callback.progress)
    callback.restore_best()
    return callback.progress.records


def _train(stage: Stage, callback: StageCallback, checkpoint: Path | None) -> None:
    trainer = _StageTrainer(stage, callback)
    remedy = (
        f"lower the stage's batch_size, which is {stage.config.batch_size}, or the model's max_length, or set "
        "student.gradient_checkpointing = true"
    )
    attention = fastest_attention(stage.model, bf16=stage.bf16)
    with explain_out_of_memory(f"stage {stage.name!r}", remedy), callback.stopping_on_interrupt(), attention:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if distributed.is_main():
        end_run(stage.report_to)
    if callback.interrupted:
        raise KeyboardInterrupt


class _EpochSampler(LengthGroupedSampler):
    """Sampler of batches of similar length, in an order that depends on seed and epoch alone."""

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator().manual_seed(seed))
        self.seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Seed the order of an epoch; Trainer calls it before each epoch, also in a resumed run."""
        self.generator.manual_seed(self.seed + epoch)


class _StageTrainer(Trainer):
    """Trainer with our objective, batches of similar length, and checkpoints of the trainable weights alone."""

    def __init__(self, stage: Stage, callback: StageCallback) -> None:
        arguments = TrainingArguments(
            output_dir=str(stage.checkpoints),
            per_device_train_batch_size=max(1, stage.config.batch_size // distributed.process_count()),
            num_train_epochs=stage.config.epochs,
            learning_rate=stage.config.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=_WARMUP_SHARE,
            weight_decay=0.0,
            max_grad_norm=_GRADIENT_CLIP,
            bf16=stage.bf16,
            use_cpu=distributed.device().type == "cpu",
            ddp_broadcast_buffers=False,
            logging_steps=_LOG_STEPS,
            logging_nan_inf_filter=False,
            save_strategy="steps",
            save_steps=_CHECKPOINT_STEPS,
            save_total_limit=2,
            report_to="none",  # Trainer would give TensorBoard's files a folder that is removed at the end.
            run_name=f"{stage.run_directory.resolve().name} {stage.name}",
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
            callbacks=[*trackers(stage.report_to, stage.run_directory, stage.name), callback],
        )
        if stage.report_to:
            callback.report = self.log
        self.remove_callback(PrinterCallback)

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """Create AdamW, with a learning rate of its own for the adapters' B if ``loraplus_lr_ratio`` is not 1."""
        ratio = self.stage.config.loraplus_lr_ratio
        if self.optimizer is None and ratio != 1:
            optimizer, options = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = create_loraplus_optimizer(
                cast("PeftModel", self.stage.model), optimizer, loraplus_lr_ratio=ratio, **options
            )
        return super().create_optimizer(model)

    def get_train_dataloader(self) -> DataLoader[int]:
        """Return whole batches in every process; the datasets' collators give each process its share of the texts."""
        size, dataset = self.stage.config.batch_size, self.stage.dataset
        loader = DataLoader(
            dataset,
            batch_size=size,
            sampler=_EpochSampler(size, dataset.lengths, self.stage.seed),
            collate_fn=dataset.collate,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[int] = prepare_data_loader(
            loader, self.args.device, num_processes=1, process_index=0, put_on_device=True
        )
        return prepared

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        checkpoints.write_weights(
            Path(output_dir or str(self.args.output_dir)), checkpoints.trainable(self.stage.model)
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        file = Path(resume_from_checkpoint) / checkpoints.WEIGHTS_FILE
        weights = read_weights(file, checkpoints.trainable(self.stage.model))
        self.stage.model.load_state_dict(weights, strict=False)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        vectors, inputs = self.stage.outputs(model, inputs)
        vectors = distributed.gather(vectors, len(inputs["text"]))
        if "logits" in inputs:
            inputs["logits"] = distributed.gather(inputs["logits"].float(), len(inputs["row"]))
        terms = self.stage.objective(vectors, inputs)
        for name, term in terms.items():
            value = float(term.detach())
            if not math.isfinite(value):
                raise TrainingError(
                    f"stage {self.stage.name!r}, step {self.state.global_step}: the loss term {name!r} became {value} "
                    f"on {_rows(inputs)}; {_cause(self.stage.model, vectors)}"
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


def _rows(batch: Mapping[str, Tensor]) -> str:
    """Return the numbers of a batch's pairs or texts, counted from 1, for an error message."""
    kind = "train pairs" if "row" in batch else "texts"
    numbers = sorted(batch["row" if "row" in batch else "text"].add(1).tolist())
    more = f" and {len(numbers) - _ROWS_SHOWN} more" if len(numbers) > _ROWS_SHOWN else ""
    return f"{kind} {', '.join(map(str, numbers[:_ROWS_SHOWN]))}{more}"


def _cause(model: nn.Module, vectors: Tensor) -> str:
    if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        return "the weights are no longer finite, so training diverged; lower the stage's learning_rate"
    if not bool(torch.isfinite(vectors).all()):
        return (
            "the weights are finite and the text vectors are not: weights grew too large, or these rows cause it; "
            "lower the stage's learning_rate, or set precision = 'fp32'"
        )
    return "weights and text vectors are finite; lower the stage's learning_rate or loss.scale"
