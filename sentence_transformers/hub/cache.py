"""Find snapshots in the Hugging Face cache without importing huggingface_hub and without a network.

The layout is that of huggingface_hub; in ``models--<organisation>--<name>/``: ``refs/<revision>`` holds a commit,
``snapshots/<commit>/`` links to ``blobs/``, and ``.no_exist/<commit>/`` marks files that the commit does not have.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from sentence_transformers.hub.layout import CONFIGS, is_complete
from sentence_transformers.hub.paths import safe_join

COMMIT = re.compile(r"[0-9a-f]{40}")


def cache_root(cache_folder: str | Path | None = None) -> Path:
    """The folder of all repositories: the argument, ``SENTENCE_TRANSFORMERS_HOME``, or the default of the Hub."""
    chosen = cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME")
    if chosen:
        return Path(chosen).expanduser()
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.path.expandvars(os.environ[variable])).expanduser()
    home = os.environ.get("HF_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def is_offline() -> bool:
    """Whether the environment forbids requests to the Hub."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in ("1", "ON", "YES", "TRUE")


def repository(root: Path, repo: str) -> Path:
    """The folder of one repository in the cache; it need not exist."""
    return root / ("models--" + repo.replace("/", "--"))


def snapshot(root: Path, repo: str, revision: str | None) -> Path | None:
    """The cached snapshot of a branch, tag or commit, complete or not; None when there is none."""
    folder = repository(root, repo)
    wanted = revision or "main"
    commit = wanted if COMMIT.fullmatch(wanted) else None
    if commit is None:
        reference = safe_join(folder / "refs", wanted)
        commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else ""
        if not COMMIT.fullmatch(commit):
            return None
    found = folder / "snapshots" / commit
    return found if found.is_dir() else None


def snapshot_is_complete(folder: Path) -> bool:
    """Whether a snapshot needs no further file, and is known not to lack an optional one that its repository has."""
    absent = folder.parent.parent / ".no_exist" / folder.name
    return is_complete(folder, lambda name: (absent / name).is_file())


def remember(root: Path, repo: str, revision: str | None, commit: str, names: Iterable[str]) -> None:
    """Note in the cache, as huggingface_hub does, which commit a revision is and which optional files it lacks."""
    folder = repository(root, repo)
    absent = folder / ".no_exist" / commit
    absent.mkdir(parents=True, exist_ok=True)
    for name in set(CONFIGS).difference(names):
        (absent / name).touch()
    wanted = revision or "main"
    if wanted == commit:
        return
    reference = safe_join(folder / "refs", wanted)
    reference.parent.mkdir(parents=True, exist_ok=True)
    partial = reference.with_name(f".{reference.name}.{os.getpid()}")
    partial.write_text(commit, encoding="utf-8")
    os.replace(partial, reference)
