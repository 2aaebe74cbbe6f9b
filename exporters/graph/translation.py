"""From torch module to ONNX graph, described by an optimum ``ExporterConfig``.

optimum's ONNX exporter does not support transformers 5. torch.onnx translates the module instead, with the names,
dynamic axes, dummy inputs and tolerance of the ``ExporterConfig``.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING

import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from optimum.exporters.base import ExporterConfig
from optimum.utils import DummyTextInputGenerator, NormalizedTextConfig

from flipkd_sdk.errors import VerificationError
from flipkd_sdk.exporters.graph.simplification import share_heads

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir

    from flipkd_sdk.exporters.encoders.encoder_path import EncoderPath
    from flipkd_sdk.exporters.encoders.static_path import StaticPath
    from flipkd_sdk.exporters.encoders.whole_encoder import WholeEncoder

_MAX_BYTES = 2**31 - 1
"""Size limit of one protobuf message. The runtime opens no external data, so a graph must fit into one file."""

OUTPUT, SECOND_OUTPUT = "sentence_embedding", "token_vectors"

OPSET = 23
"""First opset with RMSNormalization, RotaryEmbedding and Attention, which onnxruntime runs as fused kernels."""


class EncoderPathConfig(ExporterConfig):  # type: ignore[misc]
    """Inputs, outputs and tolerance of an encoder path's graph."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig
    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator,)
    ATOL_FOR_VALIDATION = 1e-4

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        """``input_ids`` and ``attention_mask``, int64, both dynamic in batch and sequence."""
        axes = {0: "batch", 1: "sequence"}
        return {"input_ids": axes, "attention_mask": axes}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        """Return the vectors, dynamic in batch, and the pair head's token vectors; paths without a head have none.

        The name ``embedding`` would collide with one in the graph.
        """
        return {OUTPUT: {0: "batch"}, SECOND_OUTPUT: {0: "batch", 1: "sequence"}}


def export_graph(path: EncoderPath | StaticPath | WholeEncoder) -> ir.Model:
    """Translate an encoder path to one self-contained float32 graph.

    Raises:
        VerificationError: the translation failed, or the graph does not fit into one file.
    """
    description = EncoderPathConfig(path.model.config, task="feature-extraction")
    outputs = list(description.outputs) if path.token_maps is not None else [OUTPUT]
    inputs = description.generate_dummy_inputs(batch_size=2, sequence_length=8)
    inputs["attention_mask"][0, 5:] = 0
    try:
        with _without_notices():
            program = torch.onnx.export(
                path,
                (inputs["input_ids"], inputs["attention_mask"]),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(description.inputs),
                output_names=outputs,
                dynamic_shapes=description.inputs,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise VerificationError(f"the encoder cannot be written as ONNX opset {OPSET}: {_first_line(error)}") from error
    if program is None:
        raise VerificationError(f"the encoder cannot be written as ONNX opset {OPSET}")
    size = sum(value.const_value.nbytes for value in program.model.graph.initializers.values() if value.const_value)
    if size > _MAX_BYTES:
        raise VerificationError(
            f"the encoder path takes {size / 1e9:.1f} GB as float32, and an ONNX file holds {_MAX_BYTES / 1e9:.1f} GB; "
            "train with a lower student.layer, or choose a smaller model"
        )
    share_heads(program.model)
    # The source positions of the nodes take a quarter of a megabyte, and nothing reads them.
    ClearMetadataAndDocStringPass()(program.model)
    return program.model


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    """Silence torch's notices about packages and interfaces that this export does not use."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        registration.setLevel(level)


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
