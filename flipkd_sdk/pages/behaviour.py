"""Section with pass rates on pairs of known kinds, such as a changed amount or a negation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipkd_sdk.pages.html import element, join
from flipkd_sdk.pages.page import Section
from flipkd_sdk.pages.parts import Example, details, pair_list, table

if TYPE_CHECKING:
    from flipkd_sdk.evaluation.behaviour import Behaviour

_EXPECTED = ("no match", "match")


def behaviour_section(behaviour: Behaviour) -> Section:
    """Return the section: a sentence, pass rates by kind, failed examples."""
    lowest = behaviour.lowest
    summary = (
        f"{behaviour.pass_rate:.1%} of {behaviour.pairs:,} pairs of known kinds pass at the threshold "
        f"{behaviour.threshold:.4f}. The lowest rate is that of {lowest.kind!r} with {lowest.pass_rate:.1%}."
    )
    rows = [
        (kind.kind, _EXPECTED[kind.label], f"{kind.pairs:,}", f"{kind.passed:,}", f"{kind.pass_rate:.1%}")
        for kind in behaviour.kinds
    ]
    failures = [
        details(
            f"Failed: {kind.kind}, expected {_EXPECTED[kind.label]}",
            pair_list([Example(p.text_a, p.text_b, f"score {p.probability:.3f}") for p in kind.failures]),
        )
        for kind in behaviour.kinds
        if kind.failures
    ]
    head = ("kind", "expected", "pairs", "passed", "rate")
    rates = table(head, rows, caption="Pass rates by kind", text_columns=(0, 1))
    return Section("behaviour", "Behaviour by kind", join([element("p", summary), rates, *failures]))
