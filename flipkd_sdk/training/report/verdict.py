"""Conclusion of a run in plain sentences: the student against its teacher, its decisions, the next step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipkd_sdk.evaluation.bootstrap import Measured
from flipkd_sdk.evaluation.evaluate import advantage
from flipkd_sdk.pages.verdict import caution, decisions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flipkd_sdk.evaluation.evaluate import Evaluation


def conclude(systems: Mapping[str, Evaluation], split: str) -> tuple[str, list[str]]:
    """Return a headline, and paragraphs on the teacher, the decisions and the next step.

    Args:
        systems: by name; ``student`` is one, ``teacher`` may be one.
        split: ``test`` if there are test pairs, else ``dev``.
    """
    student = systems["student"]
    headline, figures, behind = _against_teacher(systems, split)
    measured = measured_on(student, split)
    matches = float((student.labels[split] == 1).mean())
    return headline, [figures, *decisions(measured, matches), " ".join(_advice(measured, split, behind))]


def measured_on(system: Evaluation, split: str) -> Measured:
    """Return the measures of a split with their intervals."""
    return Measured(system.measures[split], system.intervals[split])


def _against_teacher(systems: Mapping[str, Evaluation], split: str) -> tuple[str, str, bool]:
    student = systems["student"]
    pairs = f"On the {len(student.labels[split]):,} {split} pairs"
    reached = student.measures[split]["average_precision"]
    if "teacher" not in systems:
        bounds = student.intervals[split]["average_precision"]
        measured = (
            f"{pairs} the student's average precision is {reached:.3f} "
            f"(95% interval {bounds.low:.3f} to {bounds.high:.3f})."
        )
        return "The student was measured without a teacher.", measured, False
    difference, interval = advantage(student, systems["teacher"], split)
    figures = (
        f"{pairs} the student's average precision is {reached:.3f}, its teacher's "
        f"{systems['teacher'].measures[split]['average_precision']:.3f}: a difference of {difference:+.3f} "
        f"(95% interval {interval.low:+.3f} to {interval.high:+.3f})"
    )
    if interval.low > 0:
        return "The student surpasses its teacher.", f"{figures}.", False
    if interval.high < 0:
        return "The student falls short of its teacher.", f"{figures}.", True
    return "The student matches its teacher.", f"{figures}, which can be chance.", False


def _advice(measured: Measured, split: str, behind: bool) -> Iterator[str]:
    if behind:
        yield (
            "To close the gap, add unlabelled texts of the domain (data.texts) and epochs of alignment, or read the "
            "student at a deeper block (student.layer). If its size and speed are worth the difference, export it."
        )
    else:
        yield "It can be exported with: flipkd export."
    if split == "dev":
        yield "There are no test pairs. Threshold and best epoch were chosen on these pairs: expect less on new ones."
    yield from caution(measured)
