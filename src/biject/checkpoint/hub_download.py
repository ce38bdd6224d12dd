"""Downloads from the Hub: only what a checkpoint folder needs, into `huggingface_hub`'s cache.

The revision is resolved to a commit once, and everything comes from that commit. What is already in the
cache is not fetched again; without a network the cache alone answers, with a notice. Whatever goes
wrong ends in one `CheckpointError` of a few lines.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from biject._version import __version__
from biject.checkpoint.folder import (
    first_weights,
    is_adapter_repository,
    is_other_weight,
    is_trainer_state,
    needed_files,
)
from biject.checkpoint.hub_content import check_content, snapshot_folder
from biject.checkpoint.hub_progress import event_bars
from biject.checkpoint.strict_json import shown
from biject.errors import CheckpointError
from biject.events import notice

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A repository at one commit, in the cache.

    Attributes:
        folder: Where its files are; links into the cache.
        commit: The 40 hexadecimal digits of the commit.
        files: The requested files, relative, sorted.
    """

    folder: Path
    commit: str
    files: tuple[str, ...]


def fetch(name: str, *, revision: str | None = None, token: str | None = None) -> Snapshot:
    """Download what a checkpoint folder needs of a repository, or find it in the cache.

    Args:
        name: `organisation/model`, or `model`.
        revision: Branch, tag or commit; the default branch where left out.
        token: Of the Hub; where left out, `HF_TOKEN` or the one of `hf auth login`.

    Raises:
        CheckpointError: There is no such repository or revision, access is refused, it has no weights that
            are read, or the download failed and the cache does not have it all.
    """
    from huggingface_hub import HfApi, snapshot_download

    api = HfApi(token=token, library_name="biject", library_version=__version__)
    try:
        commit = commit_of(name, revision=revision, token=token)
        files = needed_files(_listing(api, name, commit))
        missing = [file for file in files if not (snapshot_folder(name, commit) / file).exists()]
        folder = snapshot_download(
            name,
            revision=commit,
            token=token,
            library_name="biject",
            library_version=__version__,
            allow_patterns=[_literal(file) for file in files] or None,
            tqdm_class=event_bars(f"download {name}"),
        )
        check_content(name, commit, missing)
        return Snapshot(folder=Path(folder), commit=commit, files=tuple(sorted(files)))
    except CheckpointError:
        raise
    except Exception as error:  # every HTTP library has its own
        raise CheckpointError(_explain(name, revision, error)) from error


def commit_of(name: str, *, revision: str | None = None, token: str | None = None) -> str:
    """The commit that a branch or tag names now; without a network the cached one, with a notice.

    Raises:
        CheckpointError: As `fetch`.
    """
    from huggingface_hub import HfApi

    try:
        with _warnings_as_notices():
            return str(HfApi(token=token).resolve_revision(name, revision=revision).resolved)
    except Exception as error:  # every HTTP library has its own
        raise CheckpointError(_explain(name, revision, error)) from error


def _listing(api: HfApi, name: str, commit: str) -> list[str]:
    """Names of the repository's files; none where neither Hub nor cache has the list.

    Raises:
        CheckpointError: It has no weights that are read.
    """
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        files = [file.path for file in get_cached_repo_tree(name, revision=commit)]
    except CachedRepoTreeNotFoundError:
        try:
            files = list(api.list_repo_files(name, revision=commit))
        except Exception:
            if not snapshot_folder(name, commit).is_dir():
                raise
            return []  # an older program's download has no list: what is there is taken
    if first_weights(files) is None and not is_adapter_repository(files):
        _refuse_empty(name, files)
    return files


def _refuse_empty(name: str, files: list[str]) -> None:
    other = [file for file in files if is_other_weight(file) and not is_trainer_state(file)]
    found = f"weights of another kind: {', '.join(map(shown, other[:5]))}" if other else f"{len(files)} files"
    raise CheckpointError(
        f"the repository {name} has no weights that Biject reads (safetensors, or pytorch_model.bin); it has "
        f"{found}. Convert them with transformers (from_pretrained, then save_pretrained)."
    )


@contextmanager
def _warnings_as_notices() -> Iterator[None]:
    """What `huggingface_hub` would log about an unreachable Hub becomes a notice of ours."""
    messages: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        return False

    logger = logging.getLogger("huggingface_hub.hf_api")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
    for message in messages:
        notice("hub-offline", _one_line(message))


def _explain(name: str, revision: str | None, error: Exception) -> str:
    """What happened and what to do, without a token or a traceback."""
    from huggingface_hub import errors

    at = f" at revision {revision!r}" if revision else ""
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    request = f"{name}{at} was requested from the Hub"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{name} is a gated repository: accept its terms on its page with your account, then log in "
            "(`hf auth login`) or set HF_TOKEN to a token of that account."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name} has no revision {revision!r}: give a branch, a tag or a whole commit of it."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"there is no folder {name!r}, and the Hub has no such repository{at} (or it is private and you "
            "are not logged in: `hf auth login`, or HF_TOKEN)."
        )
    if isinstance(error, errors.HFValidationError):
        return f"there is no folder {shown(name)}, and it cannot be a repository's name: {_one_line(error)}"
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return f"{request}, and a file that it lists is not there: {_one_line(error)} Try again later."
    if status == 401:
        return f"{request}, which does not accept your token: renew it (`hf auth login`), or unset HF_TOKEN."
    if status is not None:
        return f"{request}, which answered with status {status}: {_one_line(error)} Try again later."
    if isinstance(error, errors.RevisionResolutionError | errors.LocalEntryNotFoundError):
        return (
            f"there is no local folder {name!r}, the Hub cannot be reached, and the cache does not have "
            f"all of {name}{at}: {_one_line(error)} Give a local folder, or try again with a network."
        )
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return f"{name} cannot be stored in the cache: {_one_line(error)}. Free some space, or set HF_HOME."
    if isinstance(error, PermissionError | FileExistsError | NotADirectoryError):
        return f"{name} cannot be stored in the cache: {_one_line(error)}. Set HF_HOME to a folder of yours."
    return (
        f"the download of {name}{at} failed: {type(error).__name__}: {_one_line(error)} What is complete "
        "stays in the cache; try again."
    )


def _one_line(error: object) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 400 else f"{text[:400]}…"


def _literal(file: str) -> str:
    """A pattern that matches this file alone (`fnmatch` has brackets of its own)."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in file)
