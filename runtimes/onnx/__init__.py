"""onnxruntime: import, sessions, threads and instruction sets."""
