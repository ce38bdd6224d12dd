"""Revisions of the repositories that `verify-matrix --weights hub` takes, recorded at first use.

The lock file is JSON and small enough to commit. It has, for each repository, the commit and the sha256 of
every file that was taken, so that a later run, here or elsewhere, verifies the very same bytes.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biject.checkpoint.hub_content import sha256_of
from biject.checkpoint.hub_download import Snapshot, commit_of, fetch
from biject.checkpoint.strict_json import parse_object, read_small_file, shown
from biject.errors import CheckpointError
from biject.events import notice

LOCK_FILE = "biject-hub.lock"
LOCK_SETTING = "BIJECT_HUB_LOCK"
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """One repository at its recorded commit: relative names of its files, with their sha256."""

    revision: str
    files: Mapping[str, str]


def lock_path(requested: str | Path | None = None) -> Path:
    """The lock file: the requested one, or BIJECT_HUB_LOCK, or `biject-hub.lock` in the working folder."""
    return Path(requested or os.environ.get(LOCK_SETTING) or LOCK_FILE)


def pinned_folder(name: str, lock: Path) -> Path:
    """The folder of a repository at its recorded commit; a repository without a record gets one.

    A notice reports where the repository's default branch has moved on since.

    Raises:
        CheckpointError: It cannot be fetched, its files differ from the recorded ones, or the lock file is
            damaged or cannot be written.
    """
    pins = read_lock(lock)
    pin = pins.get(name)
    if pin is None:
        snapshot = fetch(name)
        write_lock(lock, {**pins, name: Pinned(revision=snapshot.commit, files=_hashes(snapshot))})
        return snapshot.folder
    snapshot = fetch(name, revision=pin.revision)
    _compare(name, pin, _hashes(snapshot), lock)
    with suppress(CheckpointError):  # the record is what counts; it is there
        now = commit_of(name)
        if now != pin.revision:
            notice(
                "hub-moved-on",
                f"{name} has moved on from {pin.revision}, which {lock} records and which is verified, to "
                f"{now}. Remove its entry to take the new one.",
            )
    return snapshot.folder


def _hashes(snapshot: Snapshot) -> dict[str, str]:
    """sha256 by file."""
    files = snapshot.files or sorted(
        path.relative_to(snapshot.folder).as_posix() for path in snapshot.folder.rglob("*") if path.is_file()
    )
    return {file: sha256_of(snapshot.folder / file) for file in files}


def _compare(name: str, pin: Pinned, found: Mapping[str, str], lock: Path) -> None:
    names = sorted({*pin.files, *found})
    differ = [file for file in names if pin.files.get(file) != found.get(file)]
    if differ:
        raise CheckpointError(
            f"{name} at {pin.revision} is not what {lock} records: {', '.join(map(shown, differ[:5]))} "
            f"{'differs' if len(differ) == 1 else 'differ'}. If that is meant, remove its entry there."
        )


def read_lock(path: Path) -> dict[str, Pinned]:
    """What a lock file records; nothing where there is none.

    Raises:
        CheckpointError: It is damaged, or of another version.
    """
    if not path.exists():
        return {}
    value = parse_object(read_small_file(path, what=str(path)), where=str(path))
    repositories = value.get("repositories")
    if value.get("version") != _VERSION or not isinstance(repositories, dict):
        raise CheckpointError(
            f"{path} must be a lock file of version {_VERSION} with `repositories`. Remove it to record anew."
        )
    return {name: _pin(name, entry, path) for name, entry in repositories.items()}


def _pin(name: str, entry: Any, path: Path) -> Pinned:
    revision = entry.get("revision") if isinstance(entry, dict) else None
    files = entry.get("files") if isinstance(entry, dict) else None
    named = isinstance(revision, str) and re.fullmatch("[0-9a-f]{40}", revision)
    if not named or not isinstance(files, dict) or not all(isinstance(v, str) for v in files.values()):
        raise CheckpointError(
            f"{path}: {shown(name)} needs a `revision` of 40 hexadecimal digits and `files` with sha256, "
            f"found {shown(entry)}. Remove the entry to record it anew."
        )
    return Pinned(revision=str(revision), files=files)


def write_lock(path: Path, pins: Mapping[str, Pinned]) -> None:
    """Replace the lock file, whole or not at all.

    Raises:
        CheckpointError: It cannot be written.
    """
    entries = {name: {"revision": pin.revision, "files": dict(pin.files)} for name, pin in pins.items()}
    text = json.dumps({"version": _VERSION, "repositories": dict(sorted(entries.items()))}, indent=2) + "\n"
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}-", delete=False, encoding="utf-8"
        ) as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise CheckpointError(f"the lock file {path} cannot be written: {error}.") from error
