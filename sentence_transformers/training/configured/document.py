"""A file of settings (YAML, or JSON, which is YAML too): read, changed from outside, and asked for values of a kind.

Knows nothing of training. Every error names the key, says what is expected there and what was found.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ...errors import need

FLOAT = (
    r"[-+]?(?:(?:0|[1-9][0-9_]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
SCALARS = (  # of YAML 1.2, where 2e-5 is a number, and "no" and "on" are words
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", list("-+0123456789")),
    ("float", FLOAT, list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
)
"""What a plain word in the file stands for, in the order in which they are tried; else it is text."""

FEW = 12
"""So many names are listed in a message; of more only the nearest is."""

KINDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "settings (key: value)",
    list: "a list",
    type(None): "nothing",
}


def load(path: Path) -> dict[str, Any]:
    """The settings of a file. Raises: ValueError for what is no YAML, no mapping or has a key twice; OSError."""
    found = parse(path.read_text(encoding="utf-8-sig"), str(path))
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected settings (key: value), found {kind_of(found)}.")
    return found


def parse(text: str, place: str) -> Any:
    """What YAML text says. Raises: ValueError, with the line, for what is no YAML, or has a key twice."""
    yaml = _yaml()
    try:
        return yaml.load(text, Loader=_loader(yaml))  # a SafeLoader: makes plain values alone
    except yaml.YAMLError as error:
        raise ValueError(f"{place}: not YAML: {' '.join(str(error).split())}.") from error


def write(settings: Mapping[str, Any], path: Path) -> None:
    """Write settings so that ``load`` gives them back, in their order."""
    path.write_text(_yaml().safe_dump(dict(settings), sort_keys=False, allow_unicode=True), encoding="utf-8")


def override(settings: dict[str, Any], assignments: Sequence[str]) -> None:
    """Change values by "key.key=value"; parts of a key that are numbers count in lists from 0; values are YAML.

    Raises: ValueError for what is no assignment, and for keys below something that has none.
    """
    for assignment in assignments:
        keys, equals, value = assignment.partition("=")
        names = keys.split(".")
        if not equals or not all(names):
            raise ValueError(f"--set {assignment}: expected KEY=VALUE such as arguments.max_steps=10.")
        holder: Any = settings
        for at, name in enumerate(names[:-1]):
            holder = _step(holder, name, ".".join(names[: at + 1]), assignment)
        last = _index(holder, names[-1], keys, assignment)
        holder[last] = parse(value, f"--set {assignment}")


def _step(holder: Any, name: str, place: str, assignment: str) -> Any:
    key = _index(holder, name, place, assignment)
    if isinstance(holder, dict) and holder.get(key) is None:
        holder[key] = {}
    below = holder[key]
    if not isinstance(below, (dict, list)):
        raise ValueError(f"--set {assignment}: {place} is {shown(below)}, and has no keys. Set {place} as a whole.")
    return below


def _index(holder: Any, name: str, place: str, assignment: str) -> Any:
    if isinstance(holder, dict):
        return name
    if name.isdecimal() and int(name) < len(holder):
        return int(name)
    raise ValueError(f"--set {assignment}: {place}: expected a number below {len(holder)}, counted from 0.")


def _yaml() -> Any:
    return need("yaml", extra="train", what="Reading a training from a file")


def _loader(yaml: Any) -> Any:
    """A class, made on use: PyYAML is imported on use."""

    def construct_mapping(loader: Any, node: Any, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add(key.value if isinstance(key.value, str) else id(key))
        return yaml.SafeLoader.construct_mapping(loader, node, deep)

    loader = type("Loader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": {}, "construct_mapping": construct_mapping})
    for tag, pattern, starts in SCALARS:
        loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})$"), starts)  # type: ignore[attr-defined]
    return loader


# --- asking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Section:
    """Settings and where they stand.

    Attributes:
        values: of the file itself, so that what is filled in here is written down with it.
        place: such as "train.label"; "" for the whole file.
    """

    values: dict[str, Any]
    place: str

    @classmethod
    def of(cls, value: Any, place: str) -> Section:
        """Raises: ValueError for anything but a mapping whose keys are text."""
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise ValueError(f"{place}: expected settings (key: value), found {shown(value)}.")
        return cls(value, place)

    def at(self, key: str) -> str:
        """The full name of a key."""
        return f"{self.place}.{key}" if self.place else key

    def only(self, allowed: Collection[str]) -> None:
        """Raises: ValueError for a key that is none of these, with the one that is spelled nearest."""
        for key in self.values:
            if key not in allowed:
                raise ValueError(f"{self.at(key)} is not known.{nearest(key, allowed)}")

    def get(self, key: str, *kinds: type, default: Any = None) -> Any:
        """A value; ``default`` where there is none. Raises: ValueError for one of another kind."""
        value = self.values.get(key)
        return default if value is None else expect(value, self.at(key), *kinds)

    def need(self, key: str, *kinds: type, what: str) -> Any:
        """A value. Raises: ValueError where there is none; ``what`` says what it is for."""
        if self.values.get(key) is None:
            raise ValueError(f"{self.at(key)} is missing: {what}.")
        return self.get(key, *kinds)

    def section(self, key: str) -> Section:
        """The settings below a key, which is there."""
        return Section.of(self.values[key], self.at(key))


def expect(value: Any, place: str, *kinds: type) -> Any:
    """The value. Raises: ValueError unless it is of one of the kinds; whole numbers are numbers, true is none."""
    if any(is_a(value, kind) for kind in kinds):
        return value
    wanted = " or ".join(KINDS[kind] for kind in kinds)
    hint = " Put quotes around it." if str in kinds and isinstance(value, (int, float)) else ""
    raise ValueError(f"{place}: expected {wanted}, found {shown(value)}.{hint}")


def texts(value: Any, place: str) -> list[str]:
    """A list of texts; one text is a list of one. Raises: ValueError for anything else, and for an empty list."""
    found = [value] if isinstance(value, str) else expect(value, place, list)
    if not found:
        raise ValueError(f"{place}: expected at least one text, found an empty list.")
    return [expect(one, f"{place}.{at}", str) for at, one in enumerate(found)]


def nearest(name: str, known: Collection[str]) -> str:
    """The end of a message: the name that is spelled nearest, or all names where there are few or none is near."""
    by_lower = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), list(by_lower), n=1)
    hint = f" Did you mean {by_lower[near[0]]!r}?" if near else ""
    return hint if near and len(known) > FEW else f"{hint} There are: {', '.join(known)}."


def is_a(value: Any, kind: type) -> bool:
    """Whether a value is of a kind, as people see it."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def kind_of(value: Any) -> str:
    """What a value is, in words."""
    return next((words for kind, words in KINDS.items() if is_a(value, kind)), type(value).__name__)


def shown(value: Any) -> str:
    """A value for a message, not at any length."""
    text = repr(value)
    return f"{kind_of(value)}: {text if len(text) <= 80 else text[:77] + '...'}"
