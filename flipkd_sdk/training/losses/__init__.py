"""Losses, one a file: the mathematics alone, without the encoding of texts."""

from flipkd_sdk.training.losses.cosent import cosent
from flipkd_sdk.training.losses.distillation import pair_regression, similarity_regression, vector_alignment
from flipkd_sdk.training.losses.label_lm import label_lm
from flipkd_sdk.training.losses.mcl import margin_contrastive

__all__ = ["cosent", "label_lm", "margin_contrastive", "pair_regression", "similarity_regression", "vector_alignment"]
