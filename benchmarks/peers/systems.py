"""The compared systems, each opened by one function and used through the same interface.

A system is described by a `SystemSpec`, which travels to the process of its own that it runs in. Peers run as a user
gets them: with their defaults, two threads, and nothing tuned to the domain unless the name says so. Libraries are
imported when a system is opened, so that its start and its memory are its own.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from environment import THREADS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Encode = Callable[[Sequence[str]], Vectors]
    Pair = tuple[str, str]

BATCH_SIZES = (8, 32)
"""Batch sizes that `open_onnxruntime` chooses from; 32 is the default of sentence-transformers."""


@dataclass(frozen=True)
class SystemSpec:
    """Description of a system and of the files and packages that it needs."""

    name: str
    kind: str
    """Key of `OPENERS`."""
    location: str
    """Folder of its files; empty for a system without files."""
    variant: str = ""
    """Model file in the folder, or the precision of a matcher."""
    distributions: tuple[str, ...] = ()
    """Requirements to install, such as ``flipkd-sdk[cpu]``."""
    artifacts: tuple[str, ...] = ()
    """Files that are shipped with the application."""
    graph: str | None = None
    """ONNX file whose matrix products are counted, or None."""
    tokenizer: str | None = None
    max_length: int = 256
    """Maximum length of a text in tokens."""
    tuned: bool = False
    """True if it was trained on labelled pairs of the domain."""
    problem: str | None = None
    """Reason why it cannot run, or None."""


@dataclass(frozen=True)
class System:
    """An open system."""

    score: Callable[[str, str], float]
    """Similarity of two texts, on the system's own scale."""
    encode: Encode | None
    """Texts → unit vectors (n, d); None for a system that compares texts directly."""
    similarities: Callable[[Sequence[Pair]], NDArray[np.floating]]
    """Similarity of each pair, shape (n,)."""
    index: Callable[[Sequence[str]], Any]
    """Index of candidates that `nearest` searches."""
    nearest: Callable[[Sequence[str], Any], NDArray[np.int64]]
    """The best candidate of each query, shape (n,)."""
    note: str = ""
    """Choices made when the system was opened."""


def open_system(spec: SystemSpec, sample: Sequence[str] = ()) -> System:
    """Open a system.

    Args:
        spec: which one.
        sample: texts to choose a batch size with, where the system leaves that to its user.
    """
    return OPENERS[spec.kind](spec, sample)


def from_encoder(encode: Encode, note: str = "") -> System:
    """Return a system made of an encoder, used as documented: vectors, then a matrix product."""

    def similarities(pairs: Sequence[Pair]) -> NDArray[np.floating]:
        a, b = encode([a for a, _ in pairs]), encode([b for _, b in pairs])
        return np.asarray((a * b).sum(axis=1))

    def score(a: str, b: str) -> float:
        vectors = encode([a, b])
        return float(vectors[0] @ vectors[1])

    def nearest(queries: Sequence[str], vectors: Vectors) -> NDArray[np.int64]:
        return np.asarray((encode(queries) @ vectors.T).argmax(axis=1), dtype=np.int64)

    return System(score, encode, similarities, encode, nearest, note)


def open_matcher(spec: SystemSpec, _sample: Sequence[str]) -> System:
    """Open a matcher directory through the public `Matcher`."""
    from flipkd_sdk import Matcher

    matcher = Matcher.load(spec.location, device="cpu", precision=spec.variant, threads=THREADS, on_truncate="ignore")

    def nearest(queries: Sequence[str], candidates: Any) -> NDArray[np.int64]:
        return np.array([found[0].index for found in candidates.rank_many(queries, top_k=1)], dtype=np.int64)

    return System(matcher.score, matcher.encode, matcher.score_pairs, matcher.candidates, nearest)


def open_sentence_transformers(spec: SystemSpec, _sample: Sequence[str]) -> System:
    """Open a model with sentence-transformers on torch."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(THREADS)
    model = SentenceTransformer(spec.location, device="cpu", trust_remote_code=False)
    model.max_seq_length = spec.max_length

    def encode(texts: Sequence[str]) -> Vectors:
        return np.asarray(model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False))

    return from_encoder(encode)


def open_onnxruntime(spec: SystemSpec, sample: Sequence[str]) -> System:
    """Open an encoder with onnxruntime and tokenizers only, in batches of texts of similar length.

    With a sample, the fastest of `BATCH_SIZES` on this machine is used.
    """
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(Path(spec.location) / spec.variant), options, providers=["CPUExecutionProvider"]
    )
    tokenizer = Tokenizer.from_file(str(Path(spec.location) / "tokenizer.json"))
    tokenizer.enable_truncation(spec.max_length)
    tokenizer.enable_padding()

    def encode_batch(texts: list[str]) -> Vectors:
        encoded = tokenizer.encode_batch(texts)
        mask = np.array([text.attention_mask for text in encoded], dtype=np.int64)
        ids = np.array([text.ids for text in encoded], dtype=np.int64)
        (vectors,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
        return np.asarray(vectors)

    def encoder(batch_size: int) -> Encode:
        def encode(texts: Sequence[str]) -> Vectors:
            order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
            parts = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
            vectors = np.concatenate([encode_batch([texts[i] for i in part]) for part in parts])
            return np.asarray(vectors[np.argsort(order)])

        return encode

    best = min(BATCH_SIZES, key=lambda size: _fastest(encoder(size), sample)) if sample else BATCH_SIZES[-1]
    return from_encoder(encoder(best), f"batches of {best}, the fastest of {', '.join(map(str, BATCH_SIZES))}")


def open_fastembed(spec: SystemSpec, _sample: Sequence[str]) -> System:
    """Open the local ONNX file with fastembed, as a custom model."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    name = "local/teacher"
    TextEmbedding.add_custom_model(
        model=name,
        pooling=PoolingType.DISABLED,
        normalization=True,
        sources=ModelSource(hf=name),
        dim=json.loads((Path(spec.location) / "config.json").read_bytes())["hidden_size"],
        model_file=spec.variant,
    )
    model = TextEmbedding(name, threads=THREADS, providers=["CPUExecutionProvider"], specific_model_path=spec.location)
    return from_encoder(lambda texts: np.stack(list(model.embed(list(texts)))).astype(np.float32))


def open_model2vec(spec: SystemSpec, _sample: Sequence[str]) -> System:
    """Open model2vec's static token vectors, distilled from the teacher."""
    from model2vec import StaticModel

    model = StaticModel.from_pretrained(spec.location)
    return from_encoder(lambda texts: _unit(np.asarray(model.encode(list(texts)), dtype=np.float32)))


def open_wordllama(_spec: SystemSpec, _sample: Sequence[str]) -> System:
    """Open the default model of wordllama, which is part of its wheel."""
    import wordllama

    # It looks for the tokenizer in a folder beside the one that the wheel has; the cache is found by its right name.
    shipped = Path(str(wordllama.__file__)).parent
    model = wordllama.WordLlama.load(cache_dir=shipped, disable_download=True)
    return from_encoder(lambda texts: np.asarray(model.embed(list(texts), norm=True), dtype=np.float32))


def open_rapidfuzz(_spec: SystemSpec, _sample: Sequence[str]) -> System:
    """Open the lexical baseline: rapidfuzz's edit similarity of the sorted, lower-cased words.

    ``token_sort_ratio`` has the best average precision of rapidfuzz's ratios on the development pairs. ``WRatio``, the
    default of ``process.extract``, gives many candidates of a FAQ the same score.
    """
    from rapidfuzz import fuzz, process, utils

    clean = utils.default_process

    def similarities(pairs: Sequence[Pair]) -> NDArray[np.floating]:
        a, b = [a for a, _ in pairs], [b for _, b in pairs]
        scores = process.cpdist(a, b, scorer=fuzz.token_sort_ratio, processor=clean, workers=THREADS)
        return np.asarray(scores, dtype=np.float64) / 100

    def nearest(queries: Sequence[str], candidates: Sequence[str]) -> NDArray[np.int64]:
        scores = process.cdist(queries, candidates, scorer=fuzz.token_sort_ratio, processor=clean, workers=THREADS)
        return np.asarray(scores.argmax(axis=1), dtype=np.int64)

    return System(lambda a, b: fuzz.token_sort_ratio(a, b, processor=clean) / 100, None, similarities, list, nearest)


OPENERS: dict[str, Callable[[SystemSpec, Sequence[str]], System]] = {
    "matcher": open_matcher,
    "sentence-transformers": open_sentence_transformers,
    "onnxruntime": open_onnxruntime,
    "fastembed": open_fastembed,
    "model2vec": open_model2vec,
    "wordllama": open_wordllama,
    "rapidfuzz": open_rapidfuzz,
}


def _fastest(encode: Encode, sample: Sequence[str], times: int = 3) -> float:
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        encode(sample)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
