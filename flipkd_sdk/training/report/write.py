"""``report.html``: one self-contained page on what a run reached, verdict first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flipkd_sdk.atomic import write_text
from flipkd_sdk.evaluation.bootstrap import Interval, Measured
from flipkd_sdk.pages import threshold as slider
from flipkd_sdk.pages.behaviour import behaviour_section
from flipkd_sdk.pages.curves import precision_recall_chart, reliability_chart
from flipkd_sdk.pages.examples import examples_section
from flipkd_sdk.pages.html import Html, element, join
from flipkd_sdk.pages.page import Section, page
from flipkd_sdk.pages.parts import Example, details, facts, measures_table, pair_list, paragraphs, tiles, verdict
from flipkd_sdk.pages.verdict import key_figures
from flipkd_sdk.training.report.curves import training_charts
from flipkd_sdk.training.report.options import options_section
from flipkd_sdk.training.report.verdict import measured_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from flipkd_sdk.contrast import ContrastSet
    from flipkd_sdk.evaluation.behaviour import Behaviour
    from flipkd_sdk.evaluation.evaluate import Evaluation
    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.config.schema import TrainConfig
    from flipkd_sdk.training.data.noise_filter import NoiseFilter
    from flipkd_sdk.training.data.splits import TrainingData
    from flipkd_sdk.training.run_directory import RunResult

_EXAMPLES = 8
_CONTRAST_EXAMPLES = 3
_RECONSTRUCTION = (
    "The margin-aware contrastive loss (mcl) is our reconstruction of the one that Li et al. (ACL 2025) describe in "
    "words."
)


def write_report(
    path: Path,
    config: TrainConfig,
    result: RunResult,
    systems: Mapping[str, Evaluation],
    records: Sequence[Mapping[str, Any]],
    data: TrainingData,
    noise: NoiseFilter,
    *,
    behaviour: Behaviour | None = None,
    contrast: ContrastSet | None = None,
) -> None:
    """Write the report: verdict, threshold, examples, behaviour, systems, curves, training data, options.

    Threshold and examples come from the development pairs, so that nobody tunes on the test pairs.
    """
    split = "test" if result.pairs["test"] else "dev"
    headline, *texts = result.verdict
    student = systems["student"].scored("student", "dev")
    threshold = result.calibration.threshold
    lead = join(
        [
            verdict(headline, texts),
            tiles(key_figures(measured_on(systems["student"], split))),
            facts(_facts(config, result).items()),
        ]
    )
    sections = [
        slider.threshold_section(student, threshold, note=_threshold_note(split)),
        examples_section(data.dev, student, threshold, note=_EXAMPLES_NOTE),
        *([behaviour_section(behaviour)] if behaviour is not None else []),
        _systems(result, split),
        *_retrieval(result),
        _curves(systems, records, split),
        _training_data(result, data.train, noise),
        *([_contrast(contrast)] if contrast is not None and contrast.pairs else []),
        options_section(config),
    ]
    footer = f"Written by flipkd_sdk {result.sdk_version}. {_RECONSTRUCTION}"
    write_text(path, page("Training report", lead, sections, footer=footer, scripts=[slider.SCRIPT]))


_EXAMPLES_NOTE = (
    "Development pairs. If a label is wrong, correct the data. If one kind of pair is often wrong, add train pairs of "
    "that kind."
)


def _threshold_note(split: str) -> str:
    note = "The counts are those of the development pairs, on which the threshold was chosen."
    return f"{note} The figures above are those of the test pairs." if split == "test" else note


def _facts(config: TrainConfig, result: RunResult) -> dict[str, str]:
    sizes = ", ".join(f"{size:,} {split}" for split, size in result.pairs.items())
    seconds = ", ".join(f"{phase} {value:,.1f} s" for phase, value in result.seconds.items())
    return {
        "Date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "Student": f"{result.student.source}, {result.trainable_parameters:,} trained parameters",
        "Teacher": result.teacher.source,
        "Pairs": f"{config.data.pairs.name}: {sizes}",
        "Threshold": f"{result.calibration.threshold:.4f}, chosen for {result.calibration.objective}",
        "Time": seconds,
    }


def _systems(result: RunResult, split: str) -> Section:
    caption = f"Measures on the {result.pairs[split]:,} {split} pairs"
    note = (
        "Small figures are 95% bootstrap intervals over the pairs. Each system's probabilities and threshold were "
        f"fitted on the {result.pairs['dev']:,} development pairs."
    )
    measured = {
        name: _measured(splits[split], result.intervals.get(name, {}).get(split, {}))
        for name, splits in result.measures.items()
    }
    body = join([element("p", f"{caption}. {note}"), measures_table(measured, caption=caption)])
    return Section("systems", "Student and teacher", body)


def _retrieval(result: RunResult) -> Iterator[Section]:
    if not result.retrieval:
        return
    text = f"Each of {result.queries:,} queries was looked up among {result.exemplars:,} exemplars."
    learned = f"{result.learned_queries:,} queries also occur in training; retrieval scores are inflated."
    measured = {
        name: _measured(values, result.retrieval_intervals.get(name, {})) for name, values in result.retrieval.items()
    }
    body = [element("p", text), measures_table(measured, caption="Retrieval")]
    if result.learned_queries:
        body.append(element("p", element("strong", learned)))
    yield Section("retrieval", "Retrieval", join(body))


def _measured(values: Mapping[str, float], bounds: Mapping[str, tuple[float, float]]) -> Measured:
    return Measured(values, {name: Interval(*ends) for name, ends in bounds.items()})


def _curves(systems: Mapping[str, Evaluation], records: Sequence[Mapping[str, Any]], split: str) -> Section:
    scored = [system.scored(name, split) for name, system in systems.items()]
    thresholds = [system.calibration.threshold for system in systems.values()]
    charts = [
        *training_charts(records),
        precision_recall_chart(f"Precision and recall on the {split} pairs", scored, thresholds),
        reliability_chart(f"Share of matches by score on the {split} pairs", scored),
    ]
    undone = [
        f"The {record['stage']} stage was undone: it gained average precision in {record['undone']:.0%} of the "
        "bootstrap resamples of the development pairs alone, which may be chance."
        for record in records
        if "undone" in record
    ]
    return Section("curves", "Curves", join([paragraphs(undone), element("div", *charts, class_="charts")]))


def _training_data(result: RunResult, train: Pairs, noise: NoiseFilter) -> Section:
    texts = f"{result.pairs['train']:,} labelled train pairs and {result.texts:,} distinct texts."
    if result.altered_copies:
        texts += f" {result.altered_copies:,} altered copies of them were added for the alignment."
    if result.truncated_texts:
        texts += f" {result.truncated_texts:,} texts were longer than the student's max_length and were truncated."
    filtered = (
        f"The noise filter dropped {result.dropped_positives:,} matches with a teacher cosine below "
        f"{noise.positive_floor:.3f} and {result.dropped_negatives:,} non-matches above {noise.negative_ceiling:.3f} "
        "from the label terms. They still take part in the distillation."
    )
    body = [paragraphs([texts, *_validation(result), filtered])]
    for value, name in ((1, "a match"), (0, "no match")):
        rows = noise.dropped(train.label, value)[:_EXAMPLES]
        if len(rows):
            body += [element("h3", f"Dropped although labelled {name}"), _pairs(train, rows)]
    return Section("training-data", "Training data", join(body))


def _validation(result: RunResult) -> Iterator[str]:
    if result.validation:
        cosine, error, overlap = (result.validation[f"validation_{name}"] for name in ("cosine", "error", "overlap"))
        yield (
            f"On {result.validation_texts:,} validation texts, which no stage learned, the student's vectors have a "
            f"mean cosine of {cosine:.3f} with the teacher's. The mean squared difference of similarities is "
            f"{error:.4f}, and {overlap:.0%} of a text's ten nearest texts are the same."
        )


def _contrast(made: ContrastSet) -> Section:
    """Return the section of contrast pairs: numbers, and examples of each kind."""
    text = f"The pair head learned from {len(made):,} contrast pairs made of the texts by rules. "
    if made.left_out:
        text += f"{made.left_out:,} more were left out because the labels call them a match."
    examples = made.examples(_CONTRAST_EXAMPLES)
    body = [paragraphs([text, "Read them: a rule that does not fit your texts is switched off in a language pack."])]
    for kind, count in made.counts.items():
        shown = [pair for pair in examples if pair.kind == kind]
        title = f"{kind}: {count:,} pairs, {'a match' if shown[0].label else 'no match'}"
        body.append(details(title, pair_list([Example(pair.text_a, pair.text_b) for pair in shown])))
    return Section("contrast", "Contrast pairs", join(body))


def _pairs(pairs: Pairs, rows: Iterable[int]) -> Html:
    return pair_list([Example(pairs.a[row], pairs.b[row]) for row in rows])
