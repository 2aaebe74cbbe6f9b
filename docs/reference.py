"""Write the reference part of docs/matcher.md from the docstrings, with ``python docs/reference.py``.

The sources are parsed, not imported, so that the page comes out alike everywhere. What stands above the marker is
written by hand and stays.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "matcher.md"
MARKER = "<!-- All below is written by docs/reference.py; change the docstrings instead. -->"

CLASSES = (
    ("runtimes/matcher.py", "Matcher"),
    ("runtimes/search/candidates.py", "Match"),
    ("runtimes/search/candidates.py", "CandidateSet"),
    ("runtimes/serving/microbatch.py", "MicroBatcher"),
    ("runtimes/serving/async_matcher.py", "AsyncMatcher"),
)
ERRORS = "flipkd_sdk/errors.py"
ERRORS_AT_RUN_TIME = (
    "FlipKDError",
    "InvalidTextError",
    "TextTooLongError",
    "ConfigError",
    "MatcherDirectoryError",
    "UnsupportedFormatError",
    "CandidateSetError",
    "ExecutionError",
    "SelfTestError",
    "MatcherClosedError",
    "OutputExistsError",
)

_SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Example):$")
_ENTRY = re.compile(r"^(\w+): ")


def page() -> str:
    """The whole page, with its reference part as the docstrings have it now."""
    by_hand, marker, _ = PAGE.read_text(encoding="utf-8").partition(MARKER)
    if not marker:
        raise SystemExit(f"{PAGE}: has no line {MARKER!r}; put it where the reference begins")
    parts = [*(_class(ROOT / file, name) for file, name in CLASSES), _errors(ROOT / ERRORS)]
    return f"{by_hand}{MARKER}\n\n" + "\n".join(parts)


def _class(file: Path, name: str) -> str:
    node = _find(file, name)
    lines = [f"## {name}", ""]
    for method in node.body:
        # Where the class describes arguments, it is made by calling it.
        if isinstance(method, ast.FunctionDef) and method.name == "__init__" and "Args:" in _docstring(node):
            lines += ["```python", _signature(method).replace("__init__", name).removesuffix(" -> None"), "```", ""]
    lines += _prose(node)
    for attribute, kind, text in _attributes(node):
        lines += [f"### {name}.{attribute}", "", "```python", f"{attribute}: {kind}", "```", "", _inline(text), ""]
    for method in node.body:
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and not method.name.startswith("_"):
            lines += [f"### {name}.{method.name}", "", "```python", _signature(method), "```", "", *_prose(method)]
    return "\n".join(lines)


def _errors(file: Path) -> str:
    lines = ["## Errors", "", "Each message is one line that names the text, file or option and says what to do.", ""]
    for name in ERRORS_AT_RUN_TIME:
        node = _find(file, name)
        bases = ", ".join(f"`{ast.unparse(base)}`" for base in node.bases)
        lines.append(f"- `{name}` ({bases}): {_inline(_docstring(node))}")
    return "\n".join([*lines, ""])


def _find(file: Path, name: str) -> ast.ClassDef:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    raise SystemExit(f"{file}: has no class {name}; correct CLASSES in docs/reference.py")


def _docstring(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    text = ast.get_docstring(node)
    if text is None:
        raise SystemExit(f"{node.name} has no docstring; write one")
    return text


def _attributes(node: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """Name, type and description of fields, and of attributes that ``__init__`` sets; those described in a string."""
    bodies = [node.body, *(inner.body for inner in node.body if getattr(inner, "name", "") == "__init__")]
    for body in bodies:
        for statement, following in zip(body, [*body[1:], None], strict=True):
            if not isinstance(statement, ast.AnnAssign):
                continue
            name = ast.unparse(statement.target).removeprefix("self.")
            match following:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield name, ast.unparse(statement.annotation), inspect.cleandoc(text)
                case _ if body is node.body:
                    yield name, ast.unparse(statement.annotation), ""


def _signature(method: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    decorators = {ast.unparse(decorator) for decorator in method.decorator_list}
    returns = ast.unparse(method.returns) if method.returns else ""
    if "property" in decorators:
        return f"{method.name}: {returns}"
    method.args.args = method.args.args[1:]
    prefix = "await " if isinstance(method, ast.AsyncFunctionDef) else "classmethod " * ("classmethod" in decorators)
    return f"{prefix}{method.name}({ast.unparse(method.args)}) -> {returns}"


def _prose(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """The docstring in Markdown, line by line."""
    section, text = "", list[str]()
    for line in [*_docstring(node).split("\n"), "Example:"]:
        if found := _SECTION.match(line):
            yield from _section(section, inspect.cleandoc("\n" + "\n".join(text)))
            section, text = found[1], []
        else:
            text.append(line)


def _section(name: str, text: str) -> list[str]:
    if not text:
        return []
    if name == "Example":
        return ["```python", text, "```", ""]
    if name in ("Args", "Raises"):
        entries = re.sub(r"\n +", " ", text).split("\n")
        title = {"Args": "Arguments", "Raises": "Raises"}[name]
        return [f"{title}:", "", *(_inline(_ENTRY.sub(r"- `\1`: ", entry)) for entry in entries), ""]
    return [_inline(f"{name}: {text}" if name else text), ""]


def _inline(text: str) -> str:
    return text.replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
