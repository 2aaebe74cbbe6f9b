"""Presets: named sets of options to start from. Options of the user override those of a preset."""

from __future__ import annotations

from typing import Literal

Preset = Literal["paper", "labels", "static"]

PRESETS: dict[Preset, dict[str, dict[str, object]]] = {
    "paper": {
        # The encoder site is in the last block of a causal LLM, with rank 256 on every linear layer, as in Li et al.
        "student": {
            "layer": -1,
            "rank": 256,
            "site_rank": 256,
            "alpha": 256.0,
            "pooling": "mean",
            "attention": "causal",
        },
        "loss": {"mcl": 1.0, "similarity": 1.0, "alignment": 1.0, "label_lm": 1.0},
        "noise_filter": {"positive_quantile": 0.05, "negative_quantile": 0.95},
        # Twice the default's rank changes the weights more at the same learning rate.
        "alignment": {"learning_rate": 5e-4},
        "labels": {"learning_rate": 1e-4},
    },
    "labels": {
        # A student of the labels alone, to compare a distilled one with.
        "teacher": {"kind": "none"},
        "loss": {"mcl": 0.0, "similarity": 0.0, "alignment": 0.0, "cosent": 1.0},
        "noise_filter": {"positive_quantile": 0.0, "negative_quantile": 1.0},
        "alignment": {"epochs": 0},
    },
    "static": {
        # Token vectors are pooled and no block is run. A step costs little, so steps are larger and passes more.
        "student": {"layer": 0, "module": "embedding", "mlp_width": None},
        "alignment": {"epochs": 8, "batch_size": 128, "learning_rate": 3e-3, "loraplus_lr_ratio": 1.0},
        "labels": {"epochs": 2, "batch_size": 64, "learning_rate": 1e-3},
        "head": {"enabled": False},
    },
}
