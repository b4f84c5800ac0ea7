"""What a file may import: only layers below its own, and heavy packages only where and when they are needed.

Reads source, runs nothing. ``violations`` is the rule; ``test_layers`` applies it, and breaks it on purpose.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
ROOT = "sentence_transformers"

LAYERS: tuple[tuple[str, ...], ...] = (  # lowest first; rooms of one layer do not import each other
    ("_version", "_public_training"),
    ("_public",),
    ("_lazy",),
    ("_types", "errors"),
    ("ops", "hub"),
    ("backend",),
    ("modules",),
    ("inference", "cards"),
    ("encoders",),
    ("losses", "search"),
    ("evaluation",),
    ("training",),
    ("distributed",),
    ("serving",),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
INFERENCE = LEVEL["losses"]  # up to here nothing needs the packages of training

TRAINING_ONLY = {"sklearn", "scipy", "pandas", "datasets", "accelerate"}
AT_START = {"training": {"transformers", "datasets", "accelerate"}}
"""Room -> packages without which it is of no use."""
ALWAYS_THERE = {"torch", "numpy", "tqdm", "tokenizers", "safetensors", "huggingface_hub", "typing_extensions"}


@dataclass(frozen=True)
class Import:
    """One imported module, as written in one place of a file."""

    module: str
    name: str | None
    line: int
    at_start: bool
    """It runs when the file is imported, not when a function is called or a type checker looks."""
    is_run: bool
    """Not below ``if TYPE_CHECKING``."""


def files() -> list[Path]:
    """Every source file of the package."""
    return sorted((CHECKOUT / ROOT).rglob("*.py"))


def room_of(path: Path) -> str:
    """The first part of the path below the package: ``ops/tokens.py`` -> ``ops``; the package itself is ``""``."""
    parts = path.with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def violations(path: Path, source: str) -> list[str]:
    """Every import of one file that breaks a rule, as ``file:line: why``.

    Args:
        path: relative to the package, ``ops/tokens.py``.
        source: the text of the file.
    """
    room = room_of(path)
    if room and room not in LEVEL:
        return [f"{path}: {room!r} is no room of the house; give it a layer in tests/architecture/layers.py"]
    found = []
    for item in imports(ast.parse(source), package=[ROOT, *path.parent.parts]):
        is_own = item.module.split(".")[0] == ROOT
        why = own_reason(room, item) if is_own else foreign_reason(room, item)
        if why:
            found.append(f"{path}:{item.line}: {why}")
    return found


def own_reason(room: str, item: Import) -> str | None:
    """Why ``room`` may not import this part of our package; None where it may."""
    parts = item.module.split(".")
    target = parts[1] if len(parts) > 1 else item.name or ""
    if target in ("", "__version__"):
        return None if target else f"imports {ROOT} itself; import the file that is meant"
    if target not in LEVEL:
        return f"imports the public path {ROOT}.{target}; import the file that is meant"
    own_level = LEVEL.get(room, LEVEL["_types"])  # the package's own __init__ may only use the mechanism below
    if target == room or LEVEL[target] < own_level:
        return None
    relation = "beside it" if LEVEL[target] == own_level else "above it"
    return f"{room or ROOT} imports {target}, which is {relation}; imports go down only"


def foreign_reason(room: str, item: Import) -> str | None:
    """Why ``room`` may not import this third-party package in this way; None where it may."""
    package = item.module.split(".")[0]
    if package in sys.stdlib_module_names or not item.is_run:
        return None
    if package in TRAINING_ONLY and LEVEL.get(room, 0) <= INFERENCE:
        return f"imports {package}, which inference never needs"
    if not item.at_start:
        return None
    if LEVEL.get(room, 0) < LEVEL["_types"]:
        return f"imports {package} although importing the package loads nothing"
    if package not in ALWAYS_THERE | AT_START.get(room, set()):
        return f"imports {package} at the start; import it inside the function that needs it"
    return None


def imports(tree: ast.AST, package: list[str]) -> Iterator[Import]:
    """Every import below ``tree``, those inside functions and those by ``import_module("...")`` too."""
    yield from _imports(tree, package, at_start=True, is_run=True)


def _imports(node: ast.AST, package: list[str], at_start: bool, is_run: bool) -> Iterator[Import]:
    yield from _of_statement(node, package, at_start, is_run)
    inside = at_start and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    for field, value in ast.iter_fields(node):
        run = is_run and not (field == "body" and isinstance(node, ast.If) and _is_type_checking(node.test))
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _imports(child, package, inside and run, run)


def _of_statement(node: ast.AST, package: list[str], at_start: bool, is_run: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, None, node.lineno, at_start, is_run)
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            yield Import(module, alias.name, node.lineno, at_start, is_run)
    elif isinstance(node, ast.Call) and _called(node.func) in ("import_module", "__import__") and node.args:
        argument = node.args[0]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield Import(argument.value, None, node.lineno, at_start, is_run)


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"
