"""A checkpoint's folder: the one that was named, or a repository of the Hub in `huggingface_hub`'s cache."""

from __future__ import annotations

from pathlib import Path

from biject.checkpoint.strict_json import shown
from biject.errors import CheckpointError, InputError


def resolve_folder(name: str | Path, *, revision: str | None = None, token: str | None = None) -> Path:
    """The local folder of the checkpoint called `name`.

    A folder that exists is taken as it is, as `from_pretrained` does. Anything else that can be a name of a
    repository is downloaded, without weights in formats that would not be read; without a network, the cache
    is used.

    Args:
        name: A folder, or a repository on the Hub.
        revision: Branch, tag or commit of a repository; its default branch where left out.
        token: Of the Hub; where left out, `HF_TOKEN` or the one of `hf auth login`.

    Raises:
        InputError: a revision of a local folder was requested.
        CheckpointError: there is neither such a folder nor such a repository, or it cannot be downloaded.
    """
    try:
        folder = Path(name).expanduser()
        exists = bool(str(name)) and folder.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL byte, no such home
        raise CheckpointError(f"{shown(str(name))} cannot be the name of a folder: {error}.") from error
    if exists:
        if revision is not None:
            raise InputError(
                f"{folder} is a local folder and has no revision {revision!r}; leave the revision out."
            )
        return folder
    if isinstance(name, Path) or not _may_be_repository(name):
        raise CheckpointError(
            f"expected a checkpoint folder at {folder}, but it does not exist. Give the folder's path."
        )
    from biject.checkpoint.hub_download import fetch

    return fetch(name, revision=revision, token=token).folder


def _may_be_repository(name: str) -> bool:
    return (
        not name.startswith((".", "/", "~")) and "\\" not in name and 0 <= name.count("/") <= 1 and bool(name)
    )
