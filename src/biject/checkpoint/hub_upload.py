"""Uploads to the Hub: a folder as one commit; private where the repository is new and nobody asked otherwise.

Files are content-addressed: a push that was interrupted goes on where it stopped, since what the Hub has
already is not sent again, and the commit, which comes last, is either there as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biject._version import __version__
from biject.checkpoint.folder import is_trainer_state, leads_outside
from biject.checkpoint.run_files import STATE_FILES, run_files
from biject.checkpoint.strict_json import shown
from biject.errors import CheckpointError, InputError


def upload(
    folder: Path,
    repo: str,
    *,
    private: bool = True,
    token: str | None = None,
    message: str = "Upload model",
    replaced: Mapping[str, bytes] | None = None,
) -> str:
    """Upload a folder as one commit, and return the commit's address.

    Args:
        folder: What to upload; hidden files and a training run's state stay here.
        repo: `organisation/model`, made where it does not exist.
        private: Only its owners may see it. A repository that is public is then refused.
        token: Of the Hub; where left out, `HF_TOKEN` or the one of `hf auth login`.
        message: Of the commit.
        replaced: Files with another content than the folder's, or that it lacks.

    Raises:
        InputError: The repository is public, and nobody said that this may be.
        CheckpointError: The Hub refuses, or the network fails.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token, library_name="biject", library_version=__version__)
    contents: dict[str, Any] = {name: str(folder / name) for name in publishable(folder)} | dict(
        replaced or {}
    )
    operations = [CommitOperationAdd(name, value) for name, value in sorted(contents.items())]
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        is_private = bool(api.model_info(repo).private)
        if is_private or not private:
            return str(api.create_commit(repo, operations, commit_message=message).commit_url)
    except HFValidationError as error:
        raise InputError(f"{repo!r} is no name of a repository: {error}") from error
    except HfHubHTTPError as error:
        raise CheckpointError(
            f"{repo}: the Hub refused the upload: {_reason(error)} Log in with `hf auth login`, or give a "
            "token that may write there."
        ) from error
    except Exception as error:  # every HTTP library has its own
        raise CheckpointError(
            f"{repo}: the upload failed: {_reason(error)} Push again: what has arrived is not sent twice."
        ) from error
    raise InputError(
        f"{repo} is public already: what is pushed there, everybody can see. Say --public (private=False) if "
        "that is meant, or name another repository."
    )


def publishable(folder: Path) -> list[str]:
    """Relative names of what a push publishes: without hidden files and a run's state.

    Raises:
        InputError: A file is a link out of the folder: what it leads to is not the folder's to publish.
    """
    found = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if not path.is_file() or any(part[0] == "." for part in parts):
            continue
        if leads_outside(folder, path):
            raise InputError(
                f"{shown('/'.join(parts))} in {folder} is a link to {shown(str(path.resolve()))}, outside "
                "the folder, which a push would publish. Put a copy in its place if that is meant, or remove "
                "it."
            )
        found.append("/".join(parts))
    of_a_run = {*run_files(found), *filter(is_trainer_state, found)}
    return [name for name in found if name not in of_a_run and name.rpartition("/")[2] not in STATE_FILES]


def _reason(error: Exception) -> str:
    text = " ".join(str(getattr(error, "server_message", None) or error).split())
    return text if text.endswith(".") else f"{text}."
