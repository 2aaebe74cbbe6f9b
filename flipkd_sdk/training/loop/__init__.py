"""The training loop of one stage, on transformers' ``Trainer``."""
