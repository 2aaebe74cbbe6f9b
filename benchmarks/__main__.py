"""The benchmarks: ``python benchmarks COMMAND``; ``--help`` lists the commands."""

from __future__ import annotations

import importlib

import click

_COMMANDS = {
    "peers": ("peers.bench", "main"),
    "operators": ("peers.operators", "main"),
    "experiments": ("experiments.runner", "main"),
    "experiments-table": ("experiments.table", "main"),
    "labels": ("experiments.labels", "labels"),
    "labels-trained": ("experiments.labels_trained", "labels_trained"),
    "head-ablations": ("experiments.head", "main"),
    "runtime": ("runtime.commands", "runtime"),
    "serve": ("runtime.commands", "serve"),
    "search": ("search.measure", "main"),
    "tiers": ("search.tiers", "main"),
    "clinc150-inputs": ("search.inputs", "main"),
    "command-line": ("runtime.commands", "command_line"),
    "compat": ("compat.commands", "compat"),
    "tables": ("tables.measure", "tables"),
}


class Benchmarks(click.Group):
    """Commands that are imported when they are used: each needs other packages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


if __name__ == "__main__":
    Benchmarks(name="benchmarks", help="Measure quality, speed, memory and size.")(prog_name="python benchmarks")
