"""Files of the peers, made once from the teacher: ONNX in fp32 and int8, and static token vectors (model2vec)."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.artifact.manifest import sha256_of
from flipkd_sdk.runtimes.onnx.onnxruntime_import import load_onnxruntime
from flipkd_sdk.training.models.sources import weights_file

if TYPE_CHECKING:
    from collections.abc import Callable

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json")
FP32, INT8 = "model.onnx", "model_int8.onnx"
MAX_LENGTH = 256
"""Maximum length of the teacher in tokens, from its sentence-transformers configuration."""
_PARITY = 1e-4


def onnx_folder(teacher: Path, work: Path) -> Path:
    """Write the teacher as the ONNX files `FP32` and `INT8` with its tokenizer, and return their folder.

    int8 is onnxruntime's ``quantize_dynamic`` with ``reduce_range``, the usual way to shrink such an encoder, without
    the overflow that full-range weights meet on x86 processors without VNNI.
    """

    def make(folder: Path) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        _export(teacher, folder / FP32)
        quantize_dynamic(folder / FP32, folder / INT8, weight_type=QuantType.QInt8, reduce_range=True)
        for name in TOKENIZER_FILES:
            if (teacher / name).is_file():
                shutil.copyfile(teacher / name, folder / name)

    return _once(work / f"onnx-{_revision(teacher)}", make)


def static_folder(teacher: Path, work: Path) -> Path:
    """Distil the teacher to static token vectors by model2vec with its defaults, and return their folder."""

    def make(folder: Path) -> None:
        from model2vec.distill import distill

        distill(str(teacher)).save_pretrained(folder)

    return _once(work / f"model2vec-{_revision(teacher)}", make)


def _export(teacher: Path, file: Path) -> None:
    import torch

    from flipkd_sdk.training.models.sources import resolve
    from flipkd_sdk.training.models.teacher import load_teacher

    loaded = load_teacher(resolve(str(teacher)), MAX_LENGTH)
    model = loaded.encoder.eval()
    tokens = loaded.tokenizer(["two texts", "of different length"], padding=True)
    inputs = {name: np.array(tokens[name]) for name in ("input_ids", "attention_mask")}
    example = tuple(torch.from_numpy(values) for values in inputs.values())
    axes = {0: "batch", 1: "sequence"}
    with contextlib.redirect_stdout(None), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            example,
            file,
            dynamo=True,
            opset_version=18,
            input_names=list(inputs),
            output_names=["sentence_embedding"],
            dynamic_shapes=dict.fromkeys(inputs, axes),
            external_data=False,
            verbose=False,
        )
    with torch.inference_mode():
        expected = model(*example).numpy()
    (found,) = load_onnxruntime().InferenceSession(file).run(None, inputs)
    change = float(np.abs(found - expected).max())
    if change > _PARITY:
        raise ArithmeticError(f"the teacher's ONNX file differs from torch by {change:.2g}, more than {_PARITY:g}")


def _revision(teacher: Path) -> str:
    weights = weights_file(teacher)
    if weights is None:
        raise FileNotFoundError(f"{teacher}: no weights there")
    return sha256_of(weights)[:16]


def _once(target: Path, make: Callable[[Path], None]) -> Path:
    """Make a folder unless it exists; it appears when it is complete."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        make(working)
        working.rename(target)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return target
