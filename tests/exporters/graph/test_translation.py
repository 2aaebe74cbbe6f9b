from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from families import DIMENSION, FAMILIES, Exported, graph_vectors, largest_difference, torch_vectors

from flipkd_sdk.errors import VerificationError
from flipkd_sdk.exporters.graph import translation
from flipkd_sdk.exporters.graph.nodes import linear_nodes
from flipkd_sdk.exporters.graph.translation import OPSET, export_graph

if TYPE_CHECKING:
    from pathlib import Path


def test_the_graph_computes_what_the_student_does(family: Exported, tmp_path: Path) -> None:
    vectors = graph_vectors(family.graph, tmp_path)
    assert largest_difference(vectors, torch_vectors(family.path)) <= 1e-5
    assert largest_difference(vectors, family.unmerged) <= 1e-5


def test_what_lies_above_the_site_is_not_in_the_graph(family: Exported) -> None:
    assert len(linear_nodes(family.graph)) == FAMILIES[family.name].linear_layers
    kinds = [node.op_type for node in family.graph.graph]
    assert kinds.count("Gemm") == 1, "A alone"


def test_inputs_and_output_have_their_names_types_and_dynamic_axes(family: Exported) -> None:
    described = [(value.name, str(value.dtype), str(value.shape)) for value in family.graph.graph.inputs]
    assert described == [("input_ids", "INT64", "[batch,sequence]"), ("attention_mask", "INT64", "[batch,sequence]")]
    (output,) = family.graph.graph.outputs
    assert (output.name, str(output.dtype), str(output.shape)) == (
        "sentence_embedding",
        "FLOAT",
        f"[batch,{DIMENSION}]",
    )
    assert family.graph.opset_imports[""] == OPSET


def test_the_attention_is_fused(family: Exported) -> None:
    assert "Attention" in [node.op_type for node in family.graph.graph]
    assert "Softmax" not in [node.op_type for node in family.graph.graph]


def test_key_and_value_heads_are_shared_without_a_copy(family: Exported) -> None:
    read = [value for node in family.graph.graph if node.op_type == "Attention" for value in node.inputs[1:3]]
    assert "Reshape" not in [value.producer().op_type for value in read]


def test_a_graph_larger_than_a_file_can_be_is_refused(llama: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "_MAX_BYTES", 1000)
    with pytest.raises(VerificationError, match=r"takes 0\.0 GB as float32.*lower student\.layer"):
        export_graph(llama.path)


def test_a_failed_translation_is_reported_in_one_line(llama: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.onnx.errors.OnnxExporterError("\nno such operator\nlong story")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(VerificationError, match=rf"^the encoder cannot .* ONNX opset {OPSET}: no such operator$"):
        export_graph(llama.path)
