"""Serves the table of public names: namespaces without files, old paths, and imports on first use.

Knows no name itself; the data is in ``_public``. Works by one finder on ``sys.meta_path`` and one module class.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import MethodType, ModuleType

from sentence_transformers._public import ALIASES, DEPRECATED, NAMES, ROOT


def resolve(target: str) -> object:
    """Import ``"package.module:Name"`` below our package (or a bare module) and return the object."""
    module, _, name = target.partition(":")
    with _without_collector():
        found = import_module(_absolute(module))
    return getattr(found, name) if name else found


class Late:
    """A method whose function is in a file above the file of its class; it is imported when it is first asked for.

    Imports go down only, and yet ``model.fit`` has to be there. The function's first argument is the object.
    """

    def __init__(self, target: str) -> None:
        self.target = target

    def __get__(self, instance: object, owner: type) -> object:
        function = resolve(self.target)
        return function if instance is None else MethodType(function, instance)  # type: ignore[arg-type]


@contextmanager
def _without_collector() -> Iterator[None]:
    """Import without the garbage collector: it would look through the 100,000 objects of torch again and again.

    That is a tenth of the time until the first embedding.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def canonical(path: str) -> str:
    """The path of the module that ``path`` is another name of; ``path`` itself where it is no other name.

    >>> canonical("sentence_transformers.similarity_functions")
    'sentence_transformers.util.similarity'
    """
    local = _local(path)
    head, tail = local or "", ""
    while head:
        other = DEPRECATED.get(head) or ALIASES.get(head)
        if other is not None:
            return canonical(_absolute(other + tail))
        head, _, last = head.rpartition(".")
        tail = f".{last}{tail}"
    return path


class Namespace(ModuleType):
    """A module whose public names are rows of the table, imported on first use."""

    def __getattr__(self, name: str) -> object:
        target = _rows(self.__name__).get(name)
        if target is None:
            child = f"{self.__name__}.{name}"
            if _is_ours(child):
                return import_module(child)
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = resolve(target)
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: object) -> None:
        # ``import sentence_transformers.models.Pooling`` (a file, once) must not hide the class of that name.
        if isinstance(value, ModuleType) and name in _rows(self.__name__):
            return
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        children = (path.rpartition(".") for path in map(_absolute, NAMES))
        return sorted(
            {
                *super().__dir__(),
                *_rows(self.__name__),
                *(leaf for parent, _, leaf in children if parent == self.__name__),
            }
        )


class Finder:
    """Finds namespaces that exist only in the table, and other names of a module (the same module object)."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not _is_ours(fullname) and not _is_file_of_other_name(fullname, path):
            return None
        home = canonical(fullname)
        if home != fullname:
            return self._spec(fullname, is_package=_local(home) in NAMES)
        real = PathFinder.find_spec(fullname, path)
        if real is not None and real.origin is not None:
            return None  # a package with files of its own; an empty folder of an older installation does not count
        return self._spec(fullname, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        home = canonical(spec.name)
        if home == spec.name:
            return Namespace(spec.name)
        new = DEPRECATED.get(_local(spec.name) or "")
        if new is not None:
            _warn(spec.name, _absolute(new))
        module = import_module(home)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run; a namespace gets its ``__all__``, a module found by another name its own spec back."""
        spec = module.__spec__
        if spec is not None and spec.loader_state is not None:
            module.__spec__ = spec.loader_state
        else:
            publish(module.__name__)

    def _spec(self, fullname: str, is_package: bool) -> ModuleSpec:
        # the methods of a loader are enough; its base class would cost an import
        return ModuleSpec(fullname, self, is_package=is_package)  # type: ignore[arg-type]


def publish(path: str) -> None:
    """Make the module ``path``, already imported, answer for its rows of the table."""
    module = sys.modules[path]
    module.__class__ = Namespace
    module.__dict__["__all__"] = sorted(_rows(path))


def install() -> None:
    """Serve the table from now on. Called once, by the package itself.

    Python does not wait for a parent that another thread is still importing. A thread that asks for a path without a
    file in the few milliseconds before this call, while another imports the package for the first time, finds nothing.
    """
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
    publish(ROOT)


def _absolute(local: str) -> str:
    return f"{ROOT}.{local}" if local else ROOT


def _local(path: str) -> str | None:
    """``path`` below our package, as the table writes it; None for a foreign path."""
    if path == ROOT:
        return ""
    return path[len(ROOT) + 1 :] if path.startswith(ROOT + ".") else None


def _rows(path: str) -> dict[str, str]:
    local = _local(path)
    return {} if local is None else NAMES.get(local, {})


def _is_ours(path: str) -> bool:
    """Whether the table knows the module ``path``. Imports nothing: finders are asked under Python's import lock."""
    local = _local(path)
    if not local:
        return False
    if local in NAMES or local in ALIASES or local in DEPRECATED:
        return True
    parent, _, leaf = path.rpartition(".")
    home = canonical(parent)
    return home != parent and _is_ours(f"{home}.{leaf}")


def _is_file_of_other_name(path: str, places: Sequence[str] | None) -> bool:
    """Whether ``path`` is a file in a package of ours, called by another name of the package.

    Python would find the file by itself, and run it a second time under that name.
    """
    parent, _, leaf = path.rpartition(".")
    home = canonical(parent)
    return home != parent and PathFinder.find_spec(f"{home}.{leaf}", places) is not None


def _warn(old: str, new: str) -> None:
    """One DeprecationWarning, attributed to the code that wrote the import."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_machinery(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    warnings.warn_explicit(
        f"Importing from '{old}' is deprecated and will be removed in a future version. Please use '{new}' instead.",
        DeprecationWarning,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _is_machinery(module: str) -> bool:
    return module == __name__ or module.partition(".")[0] in ("importlib", "_frozen_importlib")
