"""Labelling in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flipkd_sdk.cli.console import printable

if TYPE_CHECKING:
    from flipkd_sdk.cli.labelling.session import Session

_KEYS = {"m": "match", "n": "none", "u": "unsure"}


def label_in_terminal(session: Session) -> None:
    """Ask for one pair after another until q or the end of the pairs."""
    while (shown := session.shown) is not None:
        click.echo(f"\n  {printable(shown.a)}\n  {printable(shown.b)}")
        click.echo("[m]atch  [n]o match  [u]nsure  [z] undo  [q]uit: ", nl=False)
        key = click.getchar().lower()
        click.echo(printable(key))
        if key in _KEYS:
            session.answer(shown.row, _KEYS[key])
        elif key == "z" and not session.undo():
            click.echo("No answer of this session is left to undo.")
        elif key in ("q", "\x04"):
            break
    click.echo("\n".join(session.progress()))
