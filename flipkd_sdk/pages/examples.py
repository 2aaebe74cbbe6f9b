"""Section with right, wrong and borderline decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipkd_sdk.evaluation.scored import choose_examples
from flipkd_sdk.pages.html import Html, element, join
from flipkd_sdk.pages.page import Section
from flipkd_sdk.pages.parts import Example, details, pair_list

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from flipkd_sdk.evaluation.scored import Scored
    from flipkd_sdk.pairs import Pairs

_COUNT = 8
_LABELS = ("labelled no match", "labelled a match")


def examples_section(
    pairs: Pairs,
    scored: Scored,
    threshold: float,
    *,
    note: str,
    explain: Callable[[str, str], Html] | None = None,
) -> Section:
    """Return the section.

    Args:
        pairs: the texts.
        scored: their scores and labels.
        threshold: score from which a pair is called a match.
        note: which pairs these are, and what to do about the errors.
        explain: returns the explanation of a wrong or borderline pair; None for none.
    """
    chosen = choose_examples(scored, threshold, _COUNT)

    def shown(rows: NDArray[np.intp], explain: Callable[[str, str], Html] | None = None) -> Html:
        return pair_list([_example(pairs, scored, int(row), explain) for row in rows])

    parts = [
        element("p", note),
        element("h3", "False matches: called a match, labelled no match"),
        shown(chosen.false, explain),
        element("h3", "Missed matches: called no match, labelled a match"),
        shown(chosen.missed, explain),
        element("h3", f"Borderline: scores nearest to the threshold, {threshold:.3f}"),
        shown(chosen.borderline, explain),
        details("Right: matches with the highest scores", shown(chosen.right_matches)),
        details("Right: non-matches with the lowest scores", shown(chosen.right_others)),
    ]
    return Section("examples", "Examples: wrong, borderline and right", join(parts))


def _example(pairs: Pairs, scored: Scored, row: int, explain: Callable[[str, str], Html] | None) -> Example:
    note = f"score {scored.probability[row]:.3f}, {_LABELS[int(pairs.label[row])]}"
    a, b = pairs.a[row], pairs.b[row]
    return Example(a, b, note, None if explain is None else explain(a, b))
