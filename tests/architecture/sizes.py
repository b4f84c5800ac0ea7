"""Prints the files and functions of the package that are over the size budget; run by ``make size``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = CHECKOUT / "sentence_transformers"

FILE_LINES = 450
FUNCTION_LINES = 60  # the docstring does not count

EXCEPTIONS: dict[str, str] = {
    # "room/file.py" or "room/file.py:function": the number of the record in docs/adr that gives the reason
}


def file_lines(source: str) -> int:
    """How many lines a file has."""
    return len(source.splitlines())


def function_lines(source: str) -> Iterator[tuple[str, int]]:
    """Every function or method and its number of lines, decorators and docstring apart."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            documentation = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) is not None else 0
            yield node.name, node.end_lineno - node.lineno + 1 - documentation


def too_large(name: str, source: str) -> list[str]:
    """What is over the budget in one file, as ``name: lines``, or ``name:function: lines``; exceptions left out."""
    found = {}
    if file_lines(source) > FILE_LINES:
        found[name] = f"{file_lines(source)} lines, {FILE_LINES} at most"
    for function, lines in function_lines(source):
        if lines > FUNCTION_LINES:
            found[f"{name}:{function}"] = f"{lines} lines, {FUNCTION_LINES} at most"
    return [f"{place}: {what}" for place, what in found.items() if place not in EXCEPTIONS]


def offenders() -> list[str]:
    """Everything over the budget in the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        found += too_large(str(path.relative_to(PACKAGE)), path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    print("\n".join(offenders()) or "every file and function is within its budget")
