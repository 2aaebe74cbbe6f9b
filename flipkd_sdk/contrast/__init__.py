"""Contrast pairs: small changes of a text that change its meaning, and small changes that do not."""

from flipkd_sdk.contrast.generate import ContrastPair, ContrastSet, contrast_pairs
from flipkd_sdk.contrast.language import detect_language
from flipkd_sdk.contrast.pack import LanguagePack
from flipkd_sdk.contrast.pack_file import languages, load_pack
from flipkd_sdk.contrast.reader import read_contrast_pairs

__all__ = [
    "ContrastPair",
    "ContrastSet",
    "LanguagePack",
    "contrast_pairs",
    "detect_language",
    "languages",
    "load_pack",
    "read_contrast_pairs",
]
