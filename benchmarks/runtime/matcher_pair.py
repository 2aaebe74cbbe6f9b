"""One pair with this package: ``matcher_pair.py MATCHER``."""

import sys

from flipkd_sdk import Matcher

matcher = Matcher.load(sys.argv[1], device="cpu", threads=2)
print(matcher.score("How do I reset my PIN?", "I forgot my PIN, what now?"))
