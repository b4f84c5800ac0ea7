"""How conditions are put together in SQL, whichever database it is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Clause: TypeAlias = tuple[str, list[Any]]
"""SQL, and what is bound to its placeholders."""


def joined(word: str, empty: str) -> Callable[[list[Clause]], Clause]:
    """Joins clauses, each complete in itself, by "AND" or "OR"; ``empty`` stands for none."""

    def join(parts: list[Clause]) -> Clause:
        if len(parts) < 2:
            return parts[0] if parts else (empty, [])
        # by halves: databases limit how deep an expression is
        middle = len(parts) // 2
        (left, left_values), (right, right_values) = join(parts[:middle]), join(parts[middle:])
        return f"({left} {word} {right})", [*left_values, *right_values]

    return join
