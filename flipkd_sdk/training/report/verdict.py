"""What a run comes to, in plain sentences: against its teacher, at its threshold, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipkd_sdk.training.evaluation import advantage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flipkd_sdk.training.evaluation import Evaluation

# Of a 95% interval of average precision; beyond it, systems that differ in practice cannot be told apart.
_WIDE = 0.1


def verdict(systems: Mapping[str, Evaluation], split: str) -> list[str]:
    """One paragraph each on the student against its teacher, on its decisions, and on what to do.

    Args:
        systems: by name; ``student`` is one, ``teacher`` may be.
        split: ``test`` where there is one, else ``dev``.
    """
    comparison, behind = _against_teacher(systems, split)
    return [comparison, _decisions(systems["student"], split), " ".join(_advice(systems["student"], split, behind))]


def _against_teacher(systems: Mapping[str, Evaluation], split: str) -> tuple[str, bool]:
    student = systems["student"]
    pairs = f"{len(student.labels[split]):,} {split} pairs"
    reached = student.measures[split]["average_precision"]
    if "teacher" not in systems:
        bounds = student.intervals[split]["average_precision"]
        return (
            f"The student reaches an average precision of {reached:.3f} (95% interval {bounds.low:.3f} to "
            f"{bounds.high:.3f}) on the {pairs}; no teacher was measured."
        ), False
    difference, interval = advantage(student, systems["teacher"], split)
    figures = (
        f"average precision {reached:.3f} against {systems['teacher'].measures[split]['average_precision']:.3f}, a "
        f"difference of {difference:+.3f} (95% interval {interval.low:+.3f} to {interval.high:+.3f})"
    )
    if interval.low > 0:
        return f"The student surpasses its teacher on the {pairs}: {figures}.", False
    if interval.high < 0:
        return f"The student falls short of its teacher on the {pairs}: {figures}.", True
    return f"The student matches its teacher on the {pairs}: {figures}, which chance alone could make.", False


def _decisions(student: Evaluation, split: str) -> str:
    measures, accuracy = student.measures[split], student.intervals[split]["accuracy"]
    threshold = student.calibration.threshold
    return (
        f"At its threshold, a score of {threshold:.3f}, it decides {measures['accuracy']:.1%} of the pairs rightly "
        f"(95% interval {accuracy.low:.1%} to {accuracy.high:.1%}): {measures['precision']:.1%} of what it calls a "
        f"match is one, and it finds {measures['recall']:.1%} of all matches."
    )


def _advice(student: Evaluation, split: str, behind: bool) -> Iterator[str]:
    if behind:
        yield (
            "To close the gap, add unlabelled texts of the domain (data.texts) and epochs of alignment, or read the "
            "student at a deeper block (student.layer); if its size and speed are worth the difference, export it."
        )
    else:
        yield "It can be exported: flipkd export."
    if split == "dev":
        yield "There are no test pairs; threshold and best epoch were chosen on these, so expect less on new ones."
    bounds = student.intervals[split]["average_precision"]
    if bounds.high - bounds.low > _WIDE:
        yield "The pairs are too few to be sure of a figure: label more before you rely on it."
