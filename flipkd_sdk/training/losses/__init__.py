"""The objectives, one a file: the mathematics alone, apart from how texts are encoded."""

from flipkd_sdk.training.losses.cosent import cosent
from flipkd_sdk.training.losses.distillation import similarity_regression, vector_alignment
from flipkd_sdk.training.losses.mcl import margin_contrastive

__all__ = ["cosent", "margin_contrastive", "similarity_regression", "vector_alignment"]
