"""`Session`: one person labelling one file."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flipkd_sdk.cli.labelling.chooser import RANDOM
from flipkd_sdk.cli.labelling.label_file import Labelled
from flipkd_sdk.cli.labelling.progress import Curve, features, learning_curve, wilson
from flipkd_sdk.cli.tables.columns import encodable

if TYPE_CHECKING:
    from collections.abc import Callable

    from flipkd_sdk.cli.labelling.chooser import Chooser
    from flipkd_sdk.cli.labelling.label_file import LabelFile

ANSWERS = ("match", "none", "unsure")
_EVERY = 10
"""Labels after which the threshold and the learning curve are computed again."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The pair on the screen."""

    row: int
    a: str
    b: str
    value: float
    chosen: str


class Session:
    """Shows pairs and keeps their labels; safe to share between threads.

    Args:
        chooser: of the pairs.
        labels: receives matches and non-matches.
        unsure: receives pairs that were left open, which `flipkd train` must not read.
        explain: returns the explanation of a pair as HTML; None for none.
    """

    def __init__(
        self,
        chooser: Chooser,
        labels: LabelFile,
        unsure: LabelFile,
        explain: Callable[[str, str], str] | None = None,
    ) -> None:
        self._chooser = chooser
        self._files = {"match": labels, "none": labels, "unsure": unsure}
        self._labels = labels
        self._unsure = unsure
        self._explain = explain
        self._lock = threading.RLock()
        pool = chooser.pool
        # As the file has them, which cannot contain half surrogate pairs.
        written = zip(map(encodable, pool.a), map(encodable, pool.b), strict=True)
        self._rows = {pair: row for row, pair in enumerate(written)}
        for labelled in (*labels.labels, *unsure.labels):
            row = self._row(labelled)
            if row is not None:
                chooser.close(row)
        self._history: list[LabelFile] = []
        self._curve: Curve | None = None
        self._learn()
        self.shown = self._next()

    @property
    def done(self) -> int:
        """Return the number of answers in both files."""
        return len(self._labels.labels) + len(self._unsure.labels)

    def answer(self, row: int, answer: str) -> bool:
        """Write an answer to the disk and go on to the next pair; return False if another pair is on the screen."""
        with self._lock:
            shown = self.shown
            if shown is None or shown.row != row:
                return False
            label = {"match": "1", "none": "0", "unsure": ""}[answer]
            file = self._files[answer]
            file.append(Labelled(shown.a, shown.b, label, shown.chosen, f"{shown.value:.6f}"))
            self._history.append(file)
            self._chooser.close(row)
            if self.done % _EVERY == 0:
                self._learn()
            self.shown = self._next()
            return True

    def undo(self) -> bool:
        """Remove the last answer of this session and show its pair again; return False if there is none."""
        with self._lock:
            if not self._history:
                return False
            labelled = self._history.pop().undo()
            row = self._row(labelled)
            if row is not None:
                self._chooser.reopen(row)
                value = float(self._chooser.pool.values[row])
                self.shown = Shown(row, labelled.text_a, labelled.text_b, value, labelled.chosen)
            return True

    def state(self) -> dict[str, Any]:
        """Return the pair on the screen, its explanation and the progress."""
        with self._lock:
            shown = self.shown
            pair = None
            if shown is not None:
                html = None if self._explain is None else self._explain(shown.a, shown.b)
                pair = {"row": shown.row, "a": shown.a, "b": shown.b, "html": html}
            return {"pair": pair, "can_undo": bool(self._history), "progress": self.progress()}

    def progress(self) -> list[str]:
        """Return what the labels so far say, a sentence each."""
        labels = [int(labelled.label) for labelled in self._labels.labels]
        lines = [f"{len(labels)} labels, {sum(labels)} of them matches; {len(self._unsure.labels)} left open."]
        drawn = [int(labelled.label) for labelled in self._labels.labels if labelled.chosen == RANDOM]
        if drawn:
            low, high = wilson(sum(drawn), len(drawn))
            lines.append(
                f"Precision of the matches found so far: {sum(drawn) / len(drawn):.0%}, 95% interval {low:.0%} to "
                f"{high:.0%}, from {len(drawn)} pairs drawn at random."
            )
        if self._curve is not None:
            curve = self._curve
            gain = f"log loss {curve.half:.3f} with half of the labels, {curve.full:.3f} with all (± {curve.error:.3f})"
            advice = "More labels still pay" if curve.pays else "More labels of this kind would no longer pay"
            lines.append(f"{advice}: {gain}.")
        return lines

    def _next(self) -> Shown | None:
        chosen = self._chooser.choose(self.done)
        if chosen is None:
            return None
        row, why = chosen
        pool = self._chooser.pool
        return Shown(row, pool.a[row], pool.b[row], float(pool.values[row]), why)

    def _learn(self) -> None:
        labels = self._labels.labels
        values = np.array([float(labelled.score) for labelled in labels])
        label = np.array([int(labelled.label) for labelled in labels], dtype=np.int64)
        self._chooser.follow(values, label)
        seen = features(values, [labelled.text_a for labelled in labels], [labelled.text_b for labelled in labels])
        self._curve = learning_curve(seen, label)

    def _row(self, labelled: Labelled) -> int | None:
        pair = encodable(labelled.text_a), encodable(labelled.text_b)
        return self._rows.get(pair, self._rows.get(pair[::-1]))
