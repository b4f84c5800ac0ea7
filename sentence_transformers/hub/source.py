"""Where the files of a model are: a folder, the Hugging Face cache, an installed package, or the Hub, in that order.

What is complete on this machine is used without any request. Imports neither torch nor transformers, and
huggingface_hub only to download.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sentence_transformers.hub import cache, download, trust
from sentence_transformers.hub.folder import current
from sentence_transformers.hub.layout import has_extra, has_weights, is_fetched
from sentence_transformers.hub.names import ORIGINAL_TRANSFORMER_MODELS
from sentence_transformers.hub.packages import find_package
from sentence_transformers.hub.paths import safe_join

logger = logging.getLogger(__name__)

REPOSITORY = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*", re.ASCII)
"""``name`` or ``organisation/name``."""


@dataclass(frozen=True)
class Source:
    """The files of one model on this machine.

    Attributes:
        name: what the caller asked for: a path, or the repository name with its organisation.
        folder: where the files are.
        kind: how they came there.
        commit: the commit of the repository; None for a folder and a package.
    """

    name: str
    folder: Path
    kind: Literal["folder", "cache", "package", "hub"]
    commit: str | None

    def file(self, relative: str, subfolder: str = "") -> Path | None:
        """The path of a file, or None when the model has none of that name. Raises as ``path``."""
        path = self.path(f"{subfolder}/{relative}" if subfolder else relative)
        return path if path.is_file() else None

    def path(self, relative: str) -> Path:
        """The path of a file or folder that need not exist.

        Raises:
            UntrustedCodeError: the path leads out of the model.
        """
        return safe_join(self.folder, relative)


def find(
    name: str | Path,
    *,
    organization: str | None = None,
    token: bool | str | None = None,
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    extra_patterns: Sequence[str] = (),
) -> Source:
    """Find all files of a model, downloading them only if no complete copy is on this machine.

    Args:
        name: a folder, or a name on the Hub.
        organization: put before a name without one, unless it is one of ``ORIGINAL_TRANSFORMER_MODELS``.
        cache_folder: default: ``SENTENCE_TRANSFORMERS_HOME``, then the cache of huggingface_hub.
        revision: branch, tag or commit; None is ``main``. A folder has no revisions.
        local_files_only: no request, as with ``HF_HUB_OFFLINE=1``.
        extra_patterns: further files to have, such as ``"onnx/*"``.

    Raises:
        NotADirectoryError: the name is a file.
        FileNotFoundError: no such folder and no such model, or not on this machine when requests are forbidden.
        PermissionError: a gated model or a bad token.
        ConnectionError: the Hub cannot be reached.
        ModelFileError: an installed package holds other weights than were published.
    """
    folder = _folder(name)
    if folder is not None:
        return folder
    repo = repository_name(str(name), organization)
    root = cache.cache_root(cache_folder)
    local = _on_this_machine(repo, root, revision)
    if local is not None and has_extra(local.folder, extra_patterns):
        return local
    usable = local or _partial(repo, root, revision)
    if local_files_only or cache.is_offline():
        if usable is None:
            raise _not_here(repo, root, revision, local_files_only)
        return usable
    try:
        fetched = download.fetch_model(repo, root, token, revision, extra_patterns)
    except ConnectionError as error:
        if usable is None:
            raise
        logger.warning("Using %s, which may lack files: %s", usable.folder, error)
        return usable
    return Source(repo, fetched, "hub", fetched.name)


def repository_name(name: str, organization: str | None = None) -> str:
    """The full name on the Hub for a name that is not a folder.

    Raises:
        NotADirectoryError: the name is a file.
        FileNotFoundError: the name cannot be one of the Hub.
    """
    if name and Path(name).is_file():
        raise NotADirectoryError(
            f"Path {name} is a file: expected the folder of a model. Pass the folder {str(Path(name).parent)!r}."
        )
    if not REPOSITORY.fullmatch(name):
        raise FileNotFoundError(
            f"Path {name} not found: expected an existing folder, or a name on the Hugging Face Hub such as "
            "'sentence-transformers/all-MiniLM-L6-v2'."
        )
    if "/" in name or organization is None or name.lower() in ORIGINAL_TRANSFORMER_MODELS:
        return name
    return f"{organization}/{name}"


def load_file_path(
    model_name_or_path: str | Path,
    filename: str,
    subfolder: str = "",
    token: bool | str | None = None,
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> str | None:
    """The local path of one file of a model, fetched alone if need be; None when the model has no such file.

    Raises:
        UntrustedCodeError: the path leads out of the model.
        OSError: as ``find``, except that an unknown repository has no files either.
    """
    folder = _folder(model_name_or_path)
    if folder is not None:
        return _text(folder.file(filename, subfolder))
    repo = repository_name(str(model_name_or_path))
    root = cache.cache_root(cache_folder)
    relative = f"{subfolder}/{filename}" if subfolder else filename
    safe_join(root, relative)
    partial = _snapshot(repo, root, revision)
    path = partial.file(relative) if partial is not None else None
    if path is not None:
        return str(path)
    local = _on_this_machine(repo, root, revision)
    if local is not None:
        path = local.file(relative)
        if path is not None or local.kind == "package" or is_fetched(relative):
            return _text(path)
    if local_files_only or cache.is_offline():
        return None
    try:
        return _text(download.fetch_file(repo, relative, root, token, revision))
    except FileNotFoundError:
        return None


def load_dir_path(
    model_name_or_path: str | Path,
    subfolder: str = "",
    token: bool | str | None = None,
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> str | None:
    """The local path of one folder of a model (``""``: of the model), fetched if need be; None when there is none.

    Raises:
        UntrustedCodeError: the path leads out of the model.
        OSError: as ``find``, except that an unknown repository has no folders either.
    """
    source = _folder(model_name_or_path)
    if source is None:
        repo = repository_name(str(model_name_or_path))
        root = cache.cache_root(cache_folder)
        safe_join(root, subfolder)
        source = _on_this_machine(repo, root, revision)
        if source is None or not source.path(subfolder).is_dir():
            if local_files_only or cache.is_offline():
                return None
            return _fetched_folder(repo, subfolder, root, token, revision)
    path = source.path(subfolder)
    return str(path) if path.is_dir() else None


def is_sentence_transformer_model(
    model_name_or_path: str | Path,
    token: bool | str | None = None,
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> bool:
    """Whether the model has a ``modules.json``; on the Hub, at the cost of fetching that one file."""
    return bool(
        load_file_path(
            model_name_or_path,
            "modules.json",
            token=token,
            cache_folder=cache_folder,
            revision=revision,
            local_files_only=local_files_only,
        )
    )


def _folder(name: str | Path) -> Source | None:
    if str(name) and Path(name).is_dir():
        return Source(str(name), current(Path(name)), "folder", None)
    return None


def _on_this_machine(repo: str, root: Path, revision: str | None) -> Source | None:
    """A complete copy in the cache, or an installed package for the default revision."""
    snapshot = _snapshot(repo, root, revision)
    if snapshot is not None and cache.snapshot_is_complete(snapshot.folder):
        return snapshot
    package = find_package(repo) if revision in (None, "main") else None
    return None if package is None else Source(repo, package, "package", None)


def _partial(repo: str, root: Path, revision: str | None) -> Source | None:
    """A cached copy that has weights and may well be all there is; good enough when the Hub cannot be asked."""
    snapshot = _snapshot(repo, root, revision)
    if snapshot is None:
        return None
    folders = [snapshot.folder, *(path for path in snapshot.folder.iterdir() if path.is_dir())]
    return snapshot if any(has_weights(folder) for folder in folders) else None


def _snapshot(repo: str, root: Path, revision: str | None) -> Source | None:
    folder = cache.snapshot(root, repo, revision)
    return None if folder is None else Source(repo, folder, "cache", folder.name)


def _fetched_folder(
    repo: str, subfolder: str, root: Path, token: bool | str | None, revision: str | None
) -> str | None:
    try:
        if subfolder:
            return _text(download.fetch_folder(repo, subfolder, root, token, revision))
        return str(download.fetch_model(repo, root, token, revision))
    except FileNotFoundError:
        return None


def _not_here(repo: str, root: Path, revision: str | None, local_files_only: bool) -> FileNotFoundError:
    why = "local_files_only=True" if local_files_only else "HF_HUB_OFFLINE"
    wanted = f"{repo!r} at revision {revision!r}" if revision else repr(repo)
    return FileNotFoundError(
        f"Model {wanted} is not on this machine: no folder {repo!r}, no complete copy in the cache "
        f"{cache.repository(root, repo)}, no installed package that carries it; and {why} forbids asking the Hugging "
        "Face Hub. Download it once with the network on, or pass the path of a model folder or another cache_folder."
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def import_module_class(
    class_ref: str,
    model_name_or_path: str | None = None,
    *,
    trust_remote_code: bool = False,
    revision: str | None = None,
    code_revision: str | None = None,
    token: bool | str | None = None,
    cache_folder: str | None = None,
    local_files_only: bool = False,
) -> type:
    """The class that a ``modules.json`` means, see ``trust.module_class``.

    Args:
        class_ref: such as ``sentence_transformers.models.Pooling``, or ``file.Class`` of a file in the model.
        model_name_or_path: the model that has it. None: a class of what is installed, whose code is trusted.
        trust_remote_code: whether code that is not ours may run. code_revision: of that code.
        revision, token, cache_folder, local_files_only: where the model is, see ``find``.

    Raises: UntrustedCodeError without trust; ImportError where there is no such class; as ``find``.
    """
    if model_name_or_path is None:
        return trust.installed_class(class_ref)
    where = find(
        model_name_or_path,
        token=token,
        cache_folder=cache_folder,
        revision=revision,
        local_files_only=local_files_only,
    )
    return trust.module_class(class_ref, where.folder, trust_remote_code, code_revision, name=model_name_or_path)
