"""Ablations of the pair head on a finished run: its student stays as it is, and further heads are trained for it."""

from __future__ import annotations

import json
import statistics
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from environment import RESULTS, ROOT, environment

from flipkd_sdk.contrast import read_contrast_pairs
from flipkd_sdk.evaluation.behaviour import check_behaviour
from flipkd_sdk.evaluation.calibration import fit
from flipkd_sdk.evaluation.metrics import average_precision
from flipkd_sdk.pairs import Pairs, read_texts
from flipkd_sdk.training.config.load import override, validate_config
from flipkd_sdk.training.data.vector_cache import cached_vectors
from flipkd_sdk.training.head.examples import cue_reader, language_pack
from flipkd_sdk.training.head.fit import train_head
from flipkd_sdk.training.head.model import TokenStates
from flipkd_sdk.training.head.states import StudentTokens
from flipkd_sdk.training.models.sources import resolve
from flipkd_sdk.training.models.teacher import load_teacher
from flipkd_sdk.training.run_directory import read_run, trained_student

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from flipkd_sdk.contrast import ContrastPair
    from flipkd_sdk.training.head.fit import TrainedHead

ABLATIONS: dict[str, dict[str, Any]] = {
    "head": {},
    "without contrast pairs": {"contrast.language": "none", "head.sibling_pairs": 0},
    "without siblings and swaps": {"head.sibling_pairs": 0},
    "without the teacher's opinions": {"head.teacher_weight": 0},
    "without cues": {},
    "cues only": {},
    "a third of the numbers": {"head.context": 16, "head.lexical": 8, "head.neurons": 16},
}
"""Options that differ from the run's, by name."""
SETS = ("bank", "medicine")
_PACKAGES = ("flipkd-sdk", "torch", "transformers", "numpy")
_SAMPLE = 1500
"""Texts that the tokens' principal directions are found on."""


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--texts", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Unlabelled texts.")
@click.option("--seeds", default=3, show_default=True, help="Heads of each ablation.")
@click.option("--only", multiple=True, type=click.Choice(list(ABLATIONS)), help="Only this ablation; repeatable.")
@click.option("--results", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS / "head-ablations.json")
def main(run: Path, texts: Path | None, seeds: int, only: Sequence[str], results: Path) -> None:
    """Train heads for the student of RUN, measure them on its splits and on examples/behaviour, print a table.

    Heads that are in the results file already are not trained again.
    """
    found: dict[str, Any] = json.loads(results.read_text("utf-8")) if results.exists() else {"heads": {}}
    found |= {"command": "python benchmarks head-ablations RUN --texts TEXTS", "environment": environment(_PACKAGES)}
    measure = _measure(run, texts)
    for name in only or ABLATIONS:
        for seed in range(seeds):
            if str(seed) not in found["heads"].setdefault(name, {}):
                found["heads"][name][str(seed)] = measure(name, seed)
                results.parent.mkdir(parents=True, exist_ok=True)
                results.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    click.echo(table(found["heads"]))


def table(heads: dict[str, dict[str, Any]]) -> str:
    """Return the means over the seeds as a Markdown table."""
    sets = [f"{name}{what}" for name in SETS for what in (" AP", ": non-matches", ": matches")]
    lines = [f"| head | dev AP | test AP | {' | '.join(sets)} | seeds |", "|---|" + "---:|" * (len(sets) + 3)]
    rows = {"none: the cosine": "cosine"} | dict.fromkeys(heads, "head")
    for name, key in rows.items():
        ablation = next(iter(heads.values())) if key == "cosine" else heads[name]
        measured = [one[key] for one in ablation.values()]
        cells = [f"{_mean(one[split] for one in measured):.4f}" for split in ("dev", "test")]
        for behaviour in SETS:
            for what in ("average_precision", "pass_rate_non_matches", "pass_rate_matches"):
                value = _mean(one[behaviour][what] for one in measured)
                cells.append(f"{value:.3f}" if what == "average_precision" else f"{value:.0%}")
        lines.append(f"| {name} | {' | '.join(cells)} | {len(measured)} |")
    return "\n".join(lines)


def _mean(values: Iterable[float]) -> float:
    return statistics.mean(values)


def _measure(directory: Path, texts: Path | None) -> Callable[[str, int], dict[str, Any]]:
    """Return a function that trains a head and measures it; encoded texts stay from one to the next."""
    run = read_run(directory)
    train, dev, test = (run.split(name) for name in ("train", "dev", "test"))
    if train is None or dev is None or test is None:
        raise click.ClickException(f"{directory}: needs train, dev and test pairs")
    held_back = {*dev.texts, *test.texts}
    unlabelled = [] if texts is None else [text for text in read_texts(texts) if text not in held_back]
    student, tokenizer = trained_student(run)
    tuned = directory / "teacher"
    source = str(tuned) if tuned.is_dir() else run.config.teacher.source
    teacher = load_teacher(resolve(source), run.config.teacher.max_length)
    behaviour = {name: read_contrast_pairs(ROOT / "examples" / "behaviour" / f"{name}.csv") for name in SETS}
    language = cue_reader(language_pack(run.config.contrast, train.texts))
    tokens = StudentTokens(student, tokenizer, train.texts[:_SAMPLE], language, context=192, lexical=64)
    whole = tokens.batch

    def measure(name: str, seed: int) -> dict[str, Any]:
        options = override(run.config.model_dump(mode="json"), {**ABLATIONS[name], "seed": seed})
        config, encode = validate_config(options, origin=name), partial(cached_vectors, teacher)
        tokens.batch = partial(_with_less, whole, name)  # type: ignore[method-assign]
        head = train_head(config, student, tokenizer, train, dev, unlabelled, encode, encode, tokens=tokens)
        return {
            "seconds": round(head.seconds, 1),
            "head": _measures(head.score, {"dev": dev, "test": test}, behaviour),
            "cosine": _measures(partial(_cosines, head), {"dev": dev, "test": test}, behaviour),
        }

    return measure


def _same(scores: NDArray[np.float32], _: object) -> NDArray[np.float32]:
    return scores


def _with_less(batch: Any, name: str, a: Sequence[str], b: Sequence[str]) -> Any:
    """Return the input of a head without what an ablation leaves out."""
    left, right, cosines, cues = batch(a, b)
    if name == "without cues":
        cues[:, :-1] = 0
    if name == "cues only":
        left, right = _unread(left), _unread(right)
    return left, right, cosines, cues


def _unread(states: TokenStates) -> TokenStates:
    """Return states that hold nothing but the number of tokens."""
    return TokenStates(states.ids.clamp(max=0), states.context * 0, states.lexical * 0)


def _cosines(head: TrainedHead, pairs: Pairs) -> NDArray[np.float32]:
    head.tokens.add(pairs.texts)
    cosines: NDArray[np.float32] = head.tokens.batch(pairs.a, pairs.b)[2].numpy()
    return cosines


def _measures(
    score: Callable[[Pairs], NDArray[np.float32]],
    splits: dict[str, Pairs],
    behaviour: dict[str, tuple[ContrastPair, ...]],
) -> dict[str, Any]:
    scores = {name: score(pairs) for name, pairs in splits.items()}
    calibration = fit(scores["dev"], splits["dev"].label)
    found: dict[str, Any] = {name: average_precision(scores[name], pairs.label) for name, pairs in splits.items()}
    for name, pairs in behaviour.items():
        labels = np.array([pair.label for pair in pairs], np.int8)
        texts = zip(*((pair.text_a, pair.text_b) for pair in pairs), strict=True)
        probability = calibration.probability(score(Pairs(*texts, labels)))
        checked = check_behaviour(pairs, partial(_same, probability), threshold=calibration.threshold, examples=0)
        found[name] = {key: value for key, value in checked.to_dict().items() if key != "kinds"}
        found[name]["kinds"] = {kind.kind: kind.pass_rate for kind in checked.kinds}
    return found
