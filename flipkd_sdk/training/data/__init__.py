"""Training data: splits, tokens, datasets, and the pairs that are added or left out."""
