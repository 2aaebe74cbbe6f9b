"""Options of earlier releases that were removed: refused where users set them, dropped where old runs contain them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_MINING = "hard negatives mined before training brought no measured gain"
_REMOVED: dict[str, tuple[object, str]] = {
    "student.blocks": (
        "first",
        "blocks spread over the depth cost 0.035 of average precision",
    ),
    "mining.negatives": (0, _MINING),
    "mining.ceiling": (None, _MINING),
    "mining.ceiling_quantile": (0.1, _MINING),
}
"""By name: the value without effect, and the reason of the removal."""
_EDGE = (
    "preset = 'edge' was removed: its options are the defaults but for the noise filter; leave it out, and set "
    "noise_filter.positive_quantile = 0.01 and noise_filter.negative_quantile = 0.99 for the same training"
)


def removed_option(content: Mapping[str, object]) -> str | None:
    """Return an explanation of the first removed option that nested plain values contain, or None."""
    if content.get("preset") == "edge":
        return f"option {_EDGE}"
    for name, (_, reason) in _REMOVED.items():
        section, _, option = name.partition(".")
        options = content.get(section)
        if isinstance(options, dict) and option in options:
            return f"option {name} was removed: {reason}; leave it out"
    return None


def drop_removed_options(content: dict[str, object]) -> list[str]:
    """Drop removed options from the options of a run of an earlier release, in place.

    Such a file contains every option of its release, so a preset changes nothing in it.

    Returns:
        The dropped options whose value had an effect, as ``NAME = VALUE``.
    """
    if content.get("preset") == "edge":
        content["preset"] = None
    effective = []
    for name, (neutral, _) in _REMOVED.items():
        section, _, option = name.partition(".")
        options = content.get(section)
        if isinstance(options, dict) and option in options:
            value = options.pop(option)
            if value != neutral:
                effective.append(f"{name} = {value!r}")
    if content.get("mining") == {}:
        del content["mining"]
    return effective
