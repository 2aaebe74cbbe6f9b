"""The README's Python example, run against a matcher."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def documented_output() -> list[str]:
    """Return what the comments of the example's printing lines promise, up to an explanation after a comma."""
    printing = [line for line in example().splitlines() if line.startswith("print(")]
    return [re.sub(r", [a-z].*$", "", line.rsplit("  # ", 1)[1]) for line in printing]


def printed_output(matcher: Path) -> list[str]:
    """Run the example with a matcher directory in place of the demo's and return the lines that it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(example().replace('"demo/matcher"', repr(str(matcher))), {})  # noqa: S102 - the project's own README
    return out.getvalue().splitlines()


def example() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return block
