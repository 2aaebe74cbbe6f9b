"""Named sets of options to start from. What the user gives comes before what a preset says."""

from __future__ import annotations

from typing import Literal

Preset = Literal["paper", "edge", "labels"]

PRESETS: dict[Preset, dict[str, dict[str, object]]] = {
    "paper": {
        # Read at the last block of a causal LLM, with adapters of rank 256 on every linear layer, as Li et al. do.
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
        # Four times the default's rank moves the weights further at the same rate.
        "alignment": {"learning_rate": 5e-4},
        "labels": {"learning_rate": 1e-4},
    },
    "edge": {
        # Four blocks below the site, each token sees the whole text, vectors as long as the teacher's.
        "student": {"layer": 4, "rank": 64, "alpha": 64.0, "attention": "bidirectional"},
        "loss": {"mcl": 1.0, "similarity": 1.0, "alignment": 1.0, "label_lm": 0.0},
        "noise_filter": {"positive_quantile": 0.01, "negative_quantile": 0.99},
    },
    "labels": {
        # What the student learns from labels alone, to compare a distilled one with.
        "teacher": {"kind": "none"},
        "loss": {"mcl": 0.0, "similarity": 0.0, "alignment": 0.0, "cosent": 1.0},
        "noise_filter": {"positive_quantile": 0.0, "negative_quantile": 1.0},
        "alignment": {"epochs": 0},
    },
}
