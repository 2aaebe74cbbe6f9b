"""Contrast pairs: small changes of a text that change its meaning, and small changes that do not."""

from flipkd_sdk.contrast.generate import ContrastPair, ContrastSet, contrast_pairs
from flipkd_sdk.contrast.language import detect_language
from flipkd_sdk.contrast.pack import LanguagePack, languages, load_pack

__all__ = [
    "ContrastPair",
    "ContrastSet",
    "LanguagePack",
    "contrast_pairs",
    "detect_language",
    "languages",
    "load_pack",
]
