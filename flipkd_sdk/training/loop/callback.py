"""The callback of a stage: records, progress bar, best epoch, early stopping, checkpoints, Ctrl-C."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm
from transformers import TrainerCallback

from flipkd_sdk.evaluation.bootstrap import chance_of_gain
from flipkd_sdk.training import distributed
from flipkd_sdk.training.loop.checkpoints import Progress, trainable, write_progress
from flipkd_sdk.training.loop.estimate import estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transformers import TrainerControl, TrainerState, TrainingArguments

    from flipkd_sdk.training.loop.stage import Stage


CHECKPOINT_SECONDS = (10.0, 60.0)
"""Time from the start of a stage to its first checkpoint, and between later ones."""
CERTAINTY = 0.9
"""Share of the bootstrap resamples in which a stage has to gain, or it is undone."""


class StageCallback(TrainerCallback):
    """Records, progress and best weights of a stage.

    Trainer's ``load_best_model_at_end`` and ``EarlyStoppingCallback`` do not replace it, for two reasons. They compare
    epochs alone, never the weights before the first step, so a stage that only makes the model worse would not be
    undone. And they need checkpoints at the evaluations alone, while a killed run resumes from one of every 200
    steps and of every minute.

    Args:
        stage: the stage.
        progress: progress of an earlier run of the stage that was stopped.
    """

    def __init__(self, stage: Stage, progress: Progress | None = None) -> None:
        self.stage = stage
        self.progress = progress or Progress(-math.inf)
        self.bar: tqdm[Any] | None = None
        self.interrupted = False
        self.report: Callable[[dict[str, float]], None] | None = None
        """Receives the development measures, for experiment trackers."""
        self._due = math.inf
        for record in self.progress.records:
            self._write(record)

    @property
    def patience_exhausted(self) -> bool:
        """True if the last ``patience`` epochs brought nothing better."""
        scores = [record[self.stage.criterion] for record in self._measurements]
        patience = self.stage.config.patience
        return bool(patience and scores) and len(scores) - 1 - scores.index(max(scores)) >= (patience or 0)

    def restore_best(self) -> None:
        """Load the best weights into the model, or those of the start if the gain may be chance."""
        share = self._share_of_gains()
        if share >= CERTAINTY:
            self.stage.model.load_state_dict(self.progress.best_weights, strict=False)
            return
        self.stage.model.load_state_dict(self.progress.start_weights, strict=False)
        last = self.progress.records[-1]
        record = {"stage": self.stage.name, "epoch": last["epoch"], "step": last["step"], "undone": share}
        self.progress.records.append(record)
        self._write(record)

    def _share_of_gains(self) -> float:
        """Return the share of resamples of the development pairs in which the stage gains; 1 if it is kept anyway."""
        undo, scores = self.stage.undo, self.progress.scores
        if undo is None or not self.progress.start_weights or scores["best"] == scores["start"]:
            return 1.0
        best, start = (np.array(scores[name], np.float32) for name in ("best", "start"))
        return distributed.broadcast_from_main(partial(chance_of_gain, best, start, undo.label))

    @contextmanager
    def stopping_on_interrupt(self) -> Iterator[None]:
        """Let the first Ctrl-C finish the step and write a checkpoint; the second one stops at once."""
        # A shell ignores SIGINT for its background jobs, so that Ctrl-C at its prompt does not reach them.
        in_background = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        if in_background or threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(*_: object) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Measure the weights before the first step, and show the estimate."""
        total, done = state.max_steps, state.global_step
        hidden = None if distributed.is_main() else True  # None shows the bar on a terminal alone
        self.bar = tqdm(total=total, initial=done, desc=self.stage.name, unit="step", disable=hidden, leave=False)
        # The start is measured, so that a stage that only makes things worse leaves the model unchanged. A checkpoint
        # of an epoch's last step may have been written before that epoch's measurement, which is then made up for.
        at_epoch_end = float(state.epoch or 0.0).is_integer() or done >= total
        if at_epoch_end and not any(record["step"] == done for record in self._measurements):
            self._measure(state)
        self._due = time.monotonic() + CHECKPOINT_SECONDS[0]
        if not self.bar.disable:
            tqdm.write(f"{self.stage.name}: {estimate(self.stage, total - done)}")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Advance the bar; write a checkpoint if it is due, and after Ctrl-C also stop."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)
        self.interrupted = distributed.any_process(self.interrupted)
        if self.interrupted:
            control.should_save = control.should_training_stop = True
        control.should_save |= distributed.any_process(time.monotonic() >= self._due)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Record the loss terms."""
        if logs and "loss" in logs:
            self._record(state, {name: value for name, value in logs.items() if name != "epoch"})

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Measure, record, write a checkpoint, and stop early if patience is exhausted."""
        if self.interrupted:  # The epoch is incomplete; a resumed run finishes and measures it.
            return
        self._measure(state)
        # Without this an epoch of few steps would have no record of its loss.
        control.should_log = True
        control.should_save = True
        control.should_training_stop |= self.patience_exhausted

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Write the progress beside Trainer's own files."""
        distributed.barrier()  # The progress file completes the checkpoint, so all processes must have written theirs.
        if distributed.is_main():
            write_progress(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}", self.progress)
        self._due = time.monotonic() + CHECKPOINT_SECONDS[1]

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()

    @property
    def _measurements(self) -> list[dict[str, Any]]:
        return [record for record in self.progress.records if self.stage.criterion in record]

    def _measure(self, state: TrainerState) -> None:
        self.stage.model.eval()
        measures = distributed.broadcast_from_main(self.stage.development)
        self.stage.model.train()
        self._record(state, measures)
        if self.report is not None:
            self.report(dict(measures))
        if measures[self.stage.criterion] > self.progress.best:
            self.progress.best = measures[self.stage.criterion]
            weights = {name: weight.clone().cpu() for name, weight in trainable(self.stage.model).items()}
            if self.stage.undo is not None:
                self.stage.model.eval()
                scores = distributed.broadcast_from_main(self.stage.undo.scores).tolist()
                self.stage.model.train()
                if not self.progress.best_weights:
                    self.progress.start_weights = weights
                    self.progress.scores["start"] = scores
                self.progress.scores["best"] = scores
            self.progress.best_weights = weights

    def _record(self, state: TrainerState, values: dict[str, float]) -> None:
        record = {"stage": self.stage.name, "epoch": round(state.epoch or 0.0, 4), "step": state.global_step, **values}
        self.progress.records.append(record)
        self._write(record)
        if self.bar is not None:
            shown = ("loss", self.stage.criterion)
            self.bar.set_postfix({name: f"{values[name]:.4f}" for name in shown if name in values}, refresh=False)

    def _write(self, record: dict[str, Any]) -> None:
        if not distributed.is_main():
            return
        with (self.stage.run_directory / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
