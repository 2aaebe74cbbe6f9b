"""Torch module → ONNX graph, and rewrites of that graph."""
