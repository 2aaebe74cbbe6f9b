"""Profile of the domain in a new matcher, measured with the variant that it runs by default."""

from __future__ import annotations

import itertools
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from flipkd_sdk.artifact.manifest import ProfileFile, sha256_of
from flipkd_sdk.artifact.profile import FILE, TEXT_MEASURES, known_pieces, make_profile, write_profile
from flipkd_sdk.evaluation.drift import histogram
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.measures import measure, piece_ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from flipkd_sdk.artifact.manifest import Manifest
    from flipkd_sdk.pairs import Pairs

logger = logging.getLogger("flipkd_sdk.exporters")


def add_profile(manifest: Manifest, working: Path, train: Sequence[str], held_out: Iterable[Pairs]) -> Manifest:
    """Write the profile and return the manifest with it.

    Texts that were trained on as part of other pairs are left out, unless there are no others.

    Args:
        manifest: of the finished variants, with the familiarity sketch; written in the working directory.
        working: the working directory.
        train: distinct training texts; without any, unknown pieces are left out.
        held_out: the splits that were held out from training.
    """
    pairs = list(dict.fromkeys(itertools.chain.from_iterable(zip(s.a, s.b, strict=True) for s in held_out)))
    logger.info("measuring the profile of %d pairs", len(pairs))
    with Matcher.load(working, device="cpu", on_truncate="ignore") as matcher:
        numbers = {int(piece) for ids in piece_ids(matcher, train) for piece in ids}
        known = known_pieces(numbers - _unknown_piece(working / manifest.tokenizer.file))
        values = measure(matcher, pairs, known=known if train else None)
    learned = set(train)
    texts = [i for i, text in enumerate(values.texts) if text not in learned] or range(len(values.texts))
    found = {"score": values.score}
    for name in TEXT_MEASURES:
        of_text = getattr(values, name)
        found[name] = [of_text[i] for i in texts] if of_text else []
    if not values.score:
        return manifest
    file = working / FILE
    write_profile(file, make_profile(known, {name: histogram(numbers) for name, numbers in found.items() if numbers}))
    described = ProfileFile(file.name, sha256_of(file), file.stat().st_size, len(values.score), len(texts))
    return replace(manifest, profile=described)


def _unknown_piece(tokenizer: Path) -> set[int]:
    """Return the number of the piece that a tokenizer uses for what it does not know, if it has one."""
    model = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]
    vocabulary = model["vocab"]
    number = model.get("unk_id")
    if number is None and isinstance(vocabulary, dict):
        number = vocabulary.get(model.get("unk_token"))
    return set() if number is None else {number}
