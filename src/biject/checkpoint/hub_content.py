"""Whether a download is what the Hub lists: `huggingface_hub` compares lengths, this compares hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from biject.checkpoint.strict_json import shown
from biject.errors import CheckpointError


def snapshot_folder(name: str, commit: str) -> Path:
    """Where the cache keeps a repository's files at one commit, whether they are there or not."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = repo_folder_name(repo_id=name, repo_type="model")
    return Path(constants.HF_HUB_CACHE) / folder / "snapshots" / commit


def check_content(name: str, commit: str, files: Sequence[str]) -> None:
    """Compare files that were just downloaded with the hashes of the Hub's list; a wrong one is removed.

    Raises:
        CheckpointError: One is not what the Hub lists.
    """
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    if not files:
        return
    try:
        listed = {file.path: file for file in get_cached_repo_tree(name, revision=commit)}
    except CachedRepoTreeNotFoundError:  # nothing was downloaded: without a network there is no list
        return
    for file in files:
        path, entry = snapshot_folder(name, commit) / file, listed.get(file)
        if entry is None or not path.is_file():
            continue
        if entry.lfs is not None:
            expected, found = entry.lfs.sha256, sha256_of(path)
        else:
            expected, found = entry.blob_id, _git_blob(path)
        if expected != found:
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise CheckpointError(
                f"{shown(file)} of {name} arrived damaged: the Hub lists it as {expected}, found {found}. It "
                "has been removed from the cache; try again."
            )


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_blob(path: Path) -> str:
    """Git's name of a file's content."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
