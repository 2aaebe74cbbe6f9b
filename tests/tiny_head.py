"""A tiny matcher with a pair head of random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper
from tiny import CALIBRATION, replace_model, write_manifest, write_tiny_matcher

from flipkd_sdk.artifact.manifest import HeadSpec, read_manifest, sha256_of
from flipkd_sdk.pair_head.cues import CUES
from flipkd_sdk.pair_head.weights import MATCH_FEATURES, PAIR_FEATURES, HeadWeights, write_weights

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN = 24
"""Length of the token vectors."""
NEGATORS = ["not", "never", "don't", "不", "不想"]
NUMBER_WORDS = {
    "half": 0.5,
    "one": 1,
    "two": 2,
    "five": 5,
    "twenty": 20,
    "hundred": 100,
    "thousand": 1000,
    "million": 1e6,
}


def write_headed_matcher(path: Path) -> Path:
    """Write a tiny matcher whose graph also returns token vectors, with a head of random weights."""
    write_tiny_matcher(path)
    model = onnx.load(path / "model_fp32.onnx")
    model.graph.node.append(helper.make_node("Identity", ["h"], ["token_vectors"]))
    model.graph.output.append(
        helper.make_tensor_value_info("token_vectors", TensorProto.FLOAT, ["batch", "sequence", HIDDEN])
    )
    replace_model(path, model.SerializeToString())
    random = np.random.default_rng(0)
    h, m = 6, 5
    shapes = {
        "sharpness": (4,),
        "unaligned": (1,),
        "compare_1": (h, 3 * HIDDEN + MATCH_FEATURES),
        "compare_1_bias": (h,),
        "compare_2": (h, h),
        "compare_2_bias": (h,),
        "importance": (1, HIDDEN),
        "importance_bias": (1,),
        "decide_1": (m, 4 * h + PAIR_FEATURES + CUES),
        "decide_1_bias": (m,),
        "decide_2": (1, m),
        "decide_2_bias": (1,),
        "cosine": (1,),
    }
    arrays = {name: (random.standard_normal(shape) * 0.4).astype(np.float32) for name, shape in shapes.items()}
    weights = HeadWeights(
        **arrays,
        context=np.array(16, np.int64),
        negators=np.array(NEGATORS),
        number_words=np.array(list(NUMBER_WORDS)),
        number_values=np.array(list(NUMBER_WORDS.values()), dtype=np.float64),
    )
    write_weights(path / "head.npz", weights)
    file = path / "head.npz"
    spec = HeadSpec(file.name, sha256_of(file), file.stat().st_size, HIDDEN, replace(CALIBRATION, slope=1.5))
    write_manifest(path, replace(read_manifest(path), head=spec))
    return path
