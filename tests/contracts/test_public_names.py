"""Every public name is used by some test, or says in words what it takes and gives."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sentence_transformers._public import NAMES, ROOT

TESTS = Path(__file__).resolve().parents[1]
# these only walk over the table, whatever is in it; that a name is there is no use of it
WALKERS = {Path(__file__).name, "test_public_table.py", "test_import_budget.py"}
PUBLIC = {target: (path, name) for path, rows in NAMES.items() for name, target in rows.items()}


def names_used(source: str) -> set[str]:
    """Names that some code reads or calls; importing alone does not count, nor does a name in a string."""
    tree = ast.parse(source)
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    renamed = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname in read
    }
    return read | renamed | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def used_by_tests() -> set[str]:
    files = [path for path in TESTS.rglob("test_*.py") if path.name not in WALKERS]
    return set().union(*(names_used(path.read_text(encoding="utf-8")) for path in files))


USED = used_by_tests()


def arguments(value: Any) -> list[str]:
    return [name for name in inspect.signature(value).parameters if name not in ("self", "cls")]


def is_documented(value: Any) -> bool:
    """Whether it has a docstring, and where it takes arguments one that has a section on them or names each."""
    text = inspect.getdoc(value) or ""
    if not callable(value) or not text:
        return False
    if "Args:" in text or "Returns:" in text:
        return True
    return all(re.search(rf"\b{re.escape(name)}\b", text) for name in arguments(value))


def resolve(target: str) -> Any:
    path, name = PUBLIC[target]
    return getattr(importlib.import_module(f"{ROOT}.{path}" if path else ROOT), name)


@pytest.mark.parametrize("target", sorted(PUBLIC))
def test_a_public_name_is_used_by_a_test_or_documented(target: str) -> None:
    own = target.rpartition(":")[2]
    names = {own, *(name for rows in NAMES.values() for name, other in rows.items() if other == target)}
    assert names & USED or is_documented(resolve(target)), (
        f"{own} of {target.partition(':')[0]} is used by no test, and its docstring does not say what it takes: "
        "write a test, or an Args and a Returns section"
    )


def callables() -> Iterator[str]:
    for target in sorted(PUBLIC):
        if inspect.isroutine(resolve(target)) or inspect.isclass(resolve(target)):
            yield target


@pytest.mark.parametrize("target", list(callables()))
def test_a_public_class_or_function_has_a_docstring_of_its_own(target: str) -> None:
    value = resolve(target)
    text = value.__doc__ or ""
    assert text.strip(), f"{target} has no docstring"
    if inspect.isclass(value):  # not that of a base
        assert all(text != base.__doc__ for base in value.__mro__[1:]), f"{target} has the docstring of a base class"


# --- that these checks can fail


def test_importing_a_name_is_no_use_of_it() -> None:
    assert "dot_score" not in names_used("from sentence_transformers.util import dot_score")
    assert "dot_score" not in names_used("'dot_score'")
    assert "dot_score" in names_used("from sentence_transformers.util import dot_score\ndot_score(1, 2)")
    assert "dot_score" in names_used("from sentence_transformers.util import dot_score as score\nscore(1, 2)")
    assert "dot_score" in names_used("util.dot_score(1, 2)")


def test_what_counts_as_documented() -> None:
    def without(a: int) -> None: ...

    def silent(b: int) -> None:
        """Do something, but not as a word: bb."""

    def naming(b: int) -> None:
        """Do something with b."""

    def section(b: int) -> None:
        """Do something.

        Args:
            b: a number.
        """

    assert [is_documented(value) for value in (without, silent, naming, section)] == [False, False, True, True]
