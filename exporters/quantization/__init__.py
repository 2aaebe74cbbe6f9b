"""Quantized variants of a graph: int8, int4 and fp16."""
