"""Answers a question with the nearest entry of the bundled bank FAQ, or with a hand-over if none matches.

python examples/faq_bot.py                  ask at the prompt; an empty line ends it
echo "card lost" | python examples/faq_bot.py
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

from flipkd_sdk import CandidateSet, Matcher

DIRECTORY = Path(os.environ.get("FLIPKD_MATCHER", "demo/matcher"))
FAQ = Path(__file__).parent / "bank_faq" / "questions.csv"


def main() -> None:
    """Encode the FAQ once, then answer."""
    with FAQ.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with Matcher.load(DIRECTORY) as matcher:
        faq: CandidateSet = matcher.candidates(row["text"] for row in rows)
        print("Ask about your bank account.", file=sys.stderr)
        for line in sys.stdin:
            if not line.strip():
                break
            found = faq.rank(line.strip(), top_k=1, score_cutoff=matcher.threshold)
            if found:
                print(f"{found[0].score:.2f}  {rows[found[0].index]['intent']}: {found[0].text}")
            else:
                print("I do not know; a colleague will answer.")


if __name__ == "__main__":
    main()
