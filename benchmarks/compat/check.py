"""Run a matcher's reference vectors in one runtime; needs numpy, the runtime, and nothing of this package.

    python check.py MATCHER PRECISION onnxruntime|openvino|tract

Prints a JSON object: the runtime's version and the least cosine of a text's vector with the stored one.
"""

from __future__ import annotations

import base64
import importlib
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Token ids and mask, int64 (1, seq) → vectors."""


def onnxruntime(file: Path) -> Run:
    """Open a graph in onnxruntime."""
    session = importlib.import_module("onnxruntime").InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})[0]


def openvino(file: Path) -> Run:
    """Open a graph in OpenVINO."""
    compiled = importlib.import_module("openvino").Core().compile_model(str(file), "CPU")
    output = compiled.output("sentence_embedding")
    return lambda ids, mask: compiled({"input_ids": ids, "attention_mask": mask})[output]


def tract(file: Path) -> Run:
    """Open a graph in tract."""
    # tract names outputs by their nodes; the text vectors are the first output of every graph.
    runnable = importlib.import_module("tract").onnx().load(str(file)).into_model().into_runnable()
    return lambda ids, mask: runnable.run([ids, mask])[0].to_numpy()


def main(directory: Path, precision: str, runtime: str) -> dict[str, Any]:
    """Return the runtime's version and the least cosine with a stored vector."""
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    sample = json.loads((directory / manifest["self_test"]["file"]).read_text(encoding="utf-8"))
    dimension, longest = manifest["encoder"]["dimension"], manifest["tokenizer"]["max_length"]
    stored = np.frombuffer(base64.b64decode(sample["vectors"][precision]), "<f2").astype(np.float32)
    run = globals()[runtime](directory / manifest["variants"][precision]["file"])
    cosines = []
    for ids, expected in zip(sample["token_ids"], stored.reshape(-1, dimension), strict=True):
        feeds = np.zeros((2, 1, min(-(-len(ids) // 4) * 4, longest)), np.int64)
        feeds[0, 0, : len(ids)], feeds[1, 0, : len(ids)] = ids, 1
        vector = run(feeds[0], feeds[1])[0]
        cosines.append(float(vector @ expected / np.linalg.norm(vector) / np.linalg.norm(expected)))
    return {"version": importlib.metadata.version(runtime), "least_cosine": round(min(cosines), 5)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), *sys.argv[2:])) + "\n")
