"""The long description: the README without what only works inside the repository. All else is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

readme = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
# A package index resolves no relative link and no picture of the repository, and there is no URL to make them absolute.
without_pictures = re.sub(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n*", "", readme)
long_description = re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", without_pictures)

setup(long_description=long_description, long_description_content_type="text/markdown")
