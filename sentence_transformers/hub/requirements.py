"""Check what a model says it needs: the key ``requirements`` of its ``config_sentence_transformers.json``."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from sentence_transformers._version import __version__

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

logger = logging.getLogger(__name__)

DISTRIBUTIONS = {"pytorch": "torch", "sentence_transformers": "sentence-transformers"}


def check_requirements(config: Mapping[str, Any], name: str) -> None:
    """Compare the installed versions with what the model asks for; pre-releases count as releases.

    Args:
        config: with or without ``"requirements": {package: ">=1" or {"specifier": ">=1", "reason": "..."}}``;
            ``python`` is a package too.
        name: the model, for messages.

    Malformed entries only give a warning in the log.

    Raises:
        ImportError: lists everything that is not met, and the pip command to run.
    """
    wanted = config.get("requirements") or {}
    if not isinstance(wanted, Mapping):
        logger.warning("%s: expected 'requirements' to be a mapping, got %r; ignored.", name, wanted)
        return
    unmet, install, is_python = [], [], False
    for package, entry in wanted.items():
        specifier, reason = _parse(str(package), entry, name)
        if specifier is None:
            continue
        distribution = DISTRIBUTIONS.get(str(package), str(package))
        installed = _installed(distribution)
        if installed is not None and _contains(specifier, installed):
            continue
        found = f"{installed} is installed" if installed is not None else "it is not installed"
        unmet.append(f"{distribution}{specifier} ({found}{f'; {reason}' if reason else ''})")
        if distribution == "python":
            is_python = True
        else:
            install.append(f'"{distribution}{specifier}"')
    if unmet:
        remedy = [f"Run: pip install -U {' '.join(install)}"] if install else []
        remedy += ["Use another version of Python."] if is_python else []
        raise ImportError(f"The model {name} needs {'; '.join(unmet)}. {' '.join(remedy)}")


def _parse(package: str, entry: Any, name: str) -> tuple[SpecifierSet | None, str]:
    """The specifier and the reason of one entry; None for a malformed one."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    text = entry.get("specifier") if isinstance(entry, Mapping) else entry
    reason = entry.get("reason") if isinstance(entry, Mapping) else None
    try:
        if not isinstance(text, str):
            raise InvalidSpecifier(f"expected text such as '>=1.0', got {text!r}")
        Requirement(package)
        return SpecifierSet(text), str(reason or "")
    except (InvalidSpecifier, InvalidRequirement) as error:
        logger.warning("%s: ignored the requirement %r: %s", name, package, error)
        return None, ""


def _installed(distribution: str) -> str | None:
    if distribution == "python":
        return platform.python_version()
    if distribution == "sentence-transformers":
        return __version__  # of the running code, which may not be the installed distribution
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _contains(specifier: SpecifierSet, installed: str) -> bool:
    from packaging.version import InvalidVersion

    try:
        return specifier.contains(installed, prereleases=True)
    except InvalidVersion:  # a local build without a proper version
        return True


def check_version_requirements(requirements: dict[str, Any] | None, source: str | None = None) -> None:
    """``check_requirements`` for the bare mapping; ``source`` is the name of the model."""
    check_requirements({"requirements": requirements}, source or "of this folder")
