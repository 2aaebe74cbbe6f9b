"""Checks of arguments, with messages that name the argument."""

from __future__ import annotations

import numbers
import os
import reprlib
from typing import Any

from flipkd_sdk.errors import ConfigError


def check_integer(name: str, value: Any, *, least: int = 1, none: str = "") -> None:  # noqa: ANN401 - callers pass what they got
    """Refuse an option that is not an integer of at least ``least``.

    Args:
        name: the option's name.
        value: its value, of any integer type.
        least: the smallest value allowed.
        none: meaning of None, such as ``"for all"``; if empty, None is refused.

    Raises:
        ConfigError: the value is another one.
    """
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise ConfigError(f"{name} must be an integer of at least {least}{_or_none(none)}; it is {shown(value)}")


def check_number(name: str, value: Any, *, least: float = -float("inf"), none: str = "") -> None:  # noqa: ANN401 - callers pass what they got
    """Refuse an option that is not a number of at least ``least``; arguments as for `check_integer`.

    Raises:
        ConfigError: the value is another one.
    """
    if value is None and none:
        return
    # Written so that NaN fails.
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not float(value) >= least:
        at_least = f" of at least {least:g}" if least > -float("inf") else ""
        raise ConfigError(f"{name} must be a number{at_least}{_or_none(none)}; it is {shown(value)}")


def check_path(name: str, value: object) -> None:
    """Refuse a path that is no str or `os.PathLike`, or contains a null character.

    Raises:
        ConfigError: the value is another one.
    """
    if not isinstance(value, str | os.PathLike) or "\0" in str(value) or not isinstance(os.fspath(value), str):
        raise ConfigError(f"{name} must be a path, as str or pathlib.Path; it is {shown(value)}")


def shown(value: object) -> str:
    """Return a value for a message: one line, not too long."""
    return " ".join(reprlib.repr(value).split())


def _or_none(meaning: str) -> str:
    return f", or None {meaning}" if meaning else ""
