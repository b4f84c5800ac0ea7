"""From the class name in a ``modules.json`` to the class, and back; decides whose code may run.

Our own classes come from the public table, by their last name alone, so every spelling of any version is understood.
All other code runs only if the caller trusts it.
"""

from __future__ import annotations

import importlib
import inspect
import shutil
from pathlib import Path
from typing import Any

from sentence_transformers._public import ROOT, SAVE_AS
from sentence_transformers.errors import UntrustedCodeError
from sentence_transformers.hub.paths import safe_join

REMOTE = "transformers_modules."
"""The package under which transformers imports the Python files of models."""


def module_class(
    type_string: str, folder: Path, trust_remote_code: bool, code_revision: str | None = None, name: str | None = None
) -> type:
    """The class of a module.

    Args:
        type_string: ``type`` of ``modules.json``, such as ``sentence_transformers.models.Pooling``.
        folder: the model, which may hold Python files.
        trust_remote_code: whether code that is not ours may run; also that of a local folder.
        code_revision: the revision of ``organisation/repository--file.Class`` references.
        name: what to call the model in an error; default: the folder.

    Raises:
        UntrustedCodeError: not our class, and no trust.
        ImportError: no such class.
    """
    if type_string.startswith(f"{ROOT}."):
        return _own_class(type_string)
    if not trust_remote_code:
        raise UntrustedCodeError(
            f"The model {name or folder} references the module class {type_string!r}, which is not part of Sentence "
            "Transformers: loading it would run code that comes with the model or is installed beside it. Read that "
            "code, and if you trust it, pass trust_remote_code=True."
        )
    return _foreign_class(type_string, folder, code_revision)


def installed_class(reference: str) -> type:
    """A class of ours by any of its names, or one of what is installed, whose code runs. Raises: ImportError."""
    found = _own_class(reference) if reference.startswith(f"{ROOT}.") else import_from_string(reference)
    if not isinstance(found, type):
        raise ImportError(f"{reference!r} is {found!r}, not a class.")
    return found


def type_string(cls: type) -> str:
    """What ``modules.json`` calls a class: the classic short path for ours, ``<file>.<Class>`` for a class that came
    with a model (``copy_code`` brings the file along), the dotted path for all others."""
    path = f"{cls.__module__}.{cls.__qualname__}"
    if cls.__module__.startswith(REMOTE):
        return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
    return SAVE_AS.get(path, path)


def copy_code(cls: type, folder: Path) -> None:
    """Copy the Python file of a class that came with a model, and the files it imports from beside it, into ``folder``;
    nothing to do for other classes."""
    if not cls.__module__.startswith(REMOTE):
        return
    from transformers.dynamic_module_utils import get_relative_import_files

    main = inspect.getfile(cls)
    for file in {main, *get_relative_import_files(main)}:
        target = folder / Path(file).relative_to(Path(main).parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)


def import_from_string(path: str) -> Any:
    """The object of a dotted path, such as ``torch.nn.Tanh``. Runs the code of its module: only for trusted paths.

    Raises:
        ImportError: not a dotted path, no such module, or no such name in it.
    """
    home, _, name = path.rpartition(".")
    if not home or not name:
        raise ImportError(f"{path!r} is not the path of a class: expected 'module.Class'.")
    module = importlib.import_module(home)
    try:
        return getattr(module, name)
    except AttributeError as error:
        raise ImportError(f"The module {home!r} has no class or attribute {name!r}.") from error


def fullname(obj: Any) -> str:
    """The dotted path of a class, or of the class of an object; built-in classes have only their name."""
    cls = obj if isinstance(obj, type) else type(obj)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"


def _own_class(reference: str) -> type:
    places = {path.rpartition(".")[2]: path for path in SAVE_AS}
    name = reference.rpartition(".")[2]
    if name not in places:
        from sentence_transformers._version import __version__

        raise ImportError(
            f"No module class {reference!r} in Sentence Transformers {__version__}; there are "
            f"{', '.join(sorted(places))}. The model may have been saved by a newer version: "
            "pip install -U sentence-transformers"
        )
    found: type = import_from_string(places[name])
    return found


def _foreign_class(reference: str, folder: Path, code_revision: str | None) -> type:
    """From a Python file of the model (or of the repository before ``--``), else from what is installed."""
    file = reference.rpartition("--")[2].rpartition(".")[0] + ".py"
    if "--" in reference or safe_join(folder, file).is_file():
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        found = get_class_from_dynamic_module(reference, str(folder), code_revision=code_revision)
    else:
        found = import_from_string(reference)
    if not isinstance(found, type):
        raise ImportError(f"{reference!r} is {found!r}, not a class: correct 'type' in {folder / 'modules.json'}.")
    return found
