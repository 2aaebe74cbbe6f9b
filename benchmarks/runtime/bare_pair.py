"""One pair on bare onnxruntime and tokenizers, as plainly as one would write it: ``bare_pair.py MODEL TOKENIZER``."""

import sys

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 2
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
tokenizer = Tokenizer.from_file(sys.argv[2])
tokenizer.enable_padding()
encodings = tokenizer.encode_batch(["How do I reset my PIN?", "I forgot my PIN, what now?"])
inputs = {
    "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
    "attention_mask": np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
}
a, b = session.run(["sentence_embedding"], inputs)[0]
print(float(a @ b))
