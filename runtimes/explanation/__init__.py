"""Explanations of scores: contributions of words to the cosine of two texts."""
