"""Upload a saved model folder to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from sentence_transformers.hub.download import api, explained


def push_folder(
    folder: str | Path,
    repo_id: str,
    token: bool | str | None = None,
    private: bool | None = None,
    commit_message: str | None = None,
    exist_ok: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
) -> str:
    """Create the repository (and the branch, if one is named), upload every file of the folder as one commit.

    Args:
        repo_id: ``organisation/name``, or ``name`` for the account of the token.
        exist_ok: add to a repository that exists; a pull request always may.
        revision: the branch to commit to; made if need be.
        create_pr: open a pull request instead of committing.

    Returns: the URL of the commit, or of the pull request.
    Raises:
        PermissionError: no token, or one that may not write there.
        FileNotFoundError: the repository does not exist and cannot be created.
        ConnectionError: the Hub cannot be reached.
        OSError: another refusal, such as a repository that exists while ``exist_ok`` is False.
    """
    client = api(token)
    with explained(repo_id, revision):
        repo = client.create_repo(repo_id, private=private, exist_ok=exist_ok or create_pr).repo_id
        if revision is not None:
            client.create_branch(repo, branch=revision, exist_ok=True)
        commit = client.upload_folder(
            repo_id=repo, folder_path=folder, commit_message=commit_message, revision=revision, create_pr=create_pr
        )
    return str(commit.pr_url if create_pr else commit.commit_url)
