"""Fetch files of a repository from the Hugging Face Hub into its cache, all files of a model from one commit.

Every failure becomes one error with a remedy. Knows requests, not models.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sentence_transformers.hub import cache
from sentence_transformers.hub.layout import wanted_files

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PARALLEL = 4
"""Files fetched at a time; most of a model is one file, the others are small."""

TIMEOUT = 10.0
"""Seconds to wait for the answer about a repository."""

CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
CHECK_NETWORK = "Check the network (or the variables HF_ENDPOINT and HTTPS_PROXY)"


def fetch_model(
    repo: str, root: Path, token: bool | str | None, revision: str | None, extra_patterns: Sequence[str] = ()
) -> Path:
    """Resolve the revision to a commit with one request, fetch the files that loading needs, and return the snapshot.

    Raises:
        ConnectionError: the Hub cannot be reached or does not work.
        PermissionError: a gated repository, or a token that is not accepted.
        FileNotFoundError: no such repository or revision.
        OSError: the cache cannot be written.
    """
    with explained(repo, revision):
        info = api(token).model_info(repo, revision=revision, timeout=TIMEOUT)
        names = [file.rfilename for file in info.siblings or ()]
        commit = str(info.sha)
        _fetch(repo, wanted_files(names, extra_patterns), root, token, commit)
        cache.remember(root, repo, revision, commit, names)
    return cache.repository(root, repo) / "snapshots" / commit


def fetch_folder(repo: str, folder: str, root: Path, token: bool | str | None, revision: str | None) -> Path | None:
    """Fetch all files below one folder of a repository; None when it has no such folder. Raises as ``fetch_model``."""
    with explained(repo, revision):
        info = api(token).model_info(repo, revision=revision, timeout=TIMEOUT)
        names = [file.rfilename for file in info.siblings or () if file.rfilename.startswith(f"{folder}/")]
        _fetch(repo, names, root, token, str(info.sha))
    return cache.repository(root, repo) / "snapshots" / str(info.sha) / folder if names else None


def fetch_file(repo: str, name: str, root: Path, token: bool | str | None, revision: str | None) -> Path | None:
    """Fetch one file; None when the repository has no such file. Raises as ``fetch_model``."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with explained(repo, revision):
        try:
            return Path(
                hf_hub_download(repo, name, revision=revision, cache_dir=root, token=token, endpoint=endpoint())
            )
        except LocalEntryNotFoundError:  # is an EntryNotFoundError too, but means that the Hub was not reached
            raise
        except EntryNotFoundError:
            return None


def api(token: bool | str | None) -> HfApi:
    """A client of the Hub."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint(), token=token, library_name="sentence-transformers")


def endpoint() -> str | None:
    """``HF_ENDPOINT`` as it is now; huggingface_hub itself reads it once, when it is imported."""
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def explained(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turn what huggingface_hub raises about a repository into one clear error, with the original as its cause."""
    from huggingface_hub import errors

    network_error: type[Exception] = getattr(errors, "HTTPError", OSError)  # the base class of its HTTP library
    where = f"{repo!r} at revision {revision!r}" if revision else repr(repo)
    try:
        yield
    except errors.GatedRepoError as error:
        raise PermissionError(
            f"The model {where} is gated. Ask for access at https://huggingface.co/{repo}, then log in "
            "('hf auth login') or pass token='hf_...'."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(
            f"The repository {repo!r} has no revision {revision!r}. Pass revision= an existing branch, tag or commit."
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise FileNotFoundError(
            f"Model {where} not found: there is neither a folder of that name nor such a repository on the Hugging "
            "Face Hub. Check the spelling; if it is private, log in ('hf auth login') or pass token='hf_...'."
        ) from error
    except (OSError, network_error) as error:
        raise _explain(error, where) from error


def _explain(error: Exception, where: str) -> OSError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status in (401, 403):
        return PermissionError(
            f"The Hugging Face Hub refused access to {where} (HTTP {status}). The token is wrong, expired, or lacks "
            "the permission: log in ('hf auth login'), pass token='hf_...', or pass token=False to use none."
        )
    if isinstance(error, OSError) and error.errno in CANNOT_WRITE:
        return OSError(
            f"Cannot store {where} in the cache: {error}. Free some space, or pass cache_folder= a folder that can be "
            "written."
        )
    if status is not None and status < 500 and status != 429:
        return OSError(f"The Hugging Face Hub does not accept the request for {where} (HTTP {status}): {error}")
    reason = f"HTTP {status}" if status is not None else f"{type(error).__name__}: {error}"
    return ConnectionError(
        f"The Hugging Face Hub cannot be reached for {where} ({reason}). {CHECK_NETWORK}, or use a model that is a "
        "local folder or is in the cache."
    )


def _fetch(repo: str, names: Sequence[str], root: Path, token: bool | str | None, commit: str) -> None:
    from huggingface_hub import hf_hub_download

    def fetch(name: str) -> str:
        return hf_hub_download(repo, name, revision=commit, cache_dir=root, token=token, endpoint=endpoint())

    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(fetch, names))
