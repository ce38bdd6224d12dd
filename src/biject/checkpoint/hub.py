"""A checkpoint's folder: the one that was named, or a repository of the Hub in `huggingface_hub`'s cache."""

from __future__ import annotations

from pathlib import Path

from biject.checkpoint.folder import is_other_weight
from biject.errors import CheckpointError, InputError
from biject.events import notice

_READ = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def resolve_folder(name: str | Path, *, revision: str | None = None) -> Path:
    """The local folder that holds the checkpoint called `name`.

    A folder that exists is taken as it is, as `from_pretrained` does. Anything else that can be a name of a
    repository is downloaded, without weights in formats that would not be read; without a network, the cache
    is asked.

    Raises:
        InputError: a revision of a local folder was asked for.
        CheckpointError: there is neither such a folder nor such a repository.
    """
    folder = Path(name).expanduser()
    if name and folder.exists():
        if revision is not None:
            raise InputError(
                f"{folder} is a local folder and has no revision {revision!r}; leave the revision out."
            )
        return folder
    if isinstance(name, Path) or not _may_be_repository(name):
        raise CheckpointError(
            f"expected a checkpoint folder at {folder}, but it does not exist. Give the folder's path."
        )
    return _download(name, revision)


def wanted_files(files: list[str]) -> list[str]:
    """Those of a repository's files that a checkpoint folder needs: one format of weights, and all assets."""
    present = set(files)
    first = next((name for name in _READ if name in present), None)
    suffix = ".bin" if first is not None and first.startswith("pytorch_model") else ".safetensors"
    stem = "pytorch_model" if suffix == ".bin" else "model"

    def is_read(file: str) -> bool:
        if first is not None and not first.endswith(".json"):
            return file == first
        return "/" not in file and (file == first or (file.startswith(f"{stem}-") and file.endswith(suffix)))

    return [file for file in files if is_read(file) or not is_other_weight(file)]


def _may_be_repository(name: str) -> bool:
    return (
        not name.startswith((".", "/", "~")) and "\\" not in name and 0 <= name.count("/") <= 1 and bool(name)
    )


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi().model_info(name, revision=revision)
        files = wanted_files([sibling.rfilename for sibling in info.siblings or []])
        return Path(
            snapshot_download(name, revision=info.sha, allow_patterns=[_literal(file) for file in files])
        )
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise CheckpointError(
            f"there is no folder {name!r}, and the Hub has no such repository{at} (or it is private and "
            "you are not logged in)."
        ) from error
    except Exception as error:  # every HTTP library has its own
        return _cached(name, revision, error)


def _cached(name: str, revision: str | None, error: Exception) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (OSError, ValueError):
        raise CheckpointError(
            f"there is no local folder {name!r}, and the Hub cannot be asked for such a repository: {error}. "
            "Give a local folder, or try again with a network."
        ) from error
    notice("hub-offline", f"the Hub cannot be reached; {name} is taken from the local cache.")
    return folder


def _literal(file: str) -> str:
    """A pattern that matches this file alone (`fnmatch` has brackets of its own)."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in file)
