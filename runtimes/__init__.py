"""The light runtime: matcher directory → `Matcher`, on numpy, tokenizers and onnxruntime alone."""
