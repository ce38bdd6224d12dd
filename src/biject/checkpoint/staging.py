"""A folder that appears whole or not at all: built beside its place, synced, then renamed. No torch."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from biject.errors import CheckpointError
from biject.events import notice

MARK = "config.json"
"""What a folder must contain, unless it is empty, for `force` to replace it."""


@contextmanager
def staged_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """Give a temporary folder beside `out`; at the end of the block it becomes `out`.

    Whatever fails, inside the block or after it, `out` and its surroundings are as before. With `force`, an
    older folder at `out` is moved aside first and removed last.

    Raises:
        CheckpointError: `out` exists (without `force`), is no checkpoint folder, or the disk refuses.
    """
    with os_errors(out):
        _check_free(out, force=force)
        made = _make_parents(out.parent)
        temporary = _sibling(out, "new")
        try:
            temporary.mkdir()
            yield temporary
            _sync_folders(temporary)
            aside = _put_in_place(temporary, out, force=force)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            _remove_empty(made)
            raise
    if aside is not None:
        _remove(aside)


@contextmanager
def os_errors(out: Path) -> Iterator[None]:
    """Turn an error of the operating system into one message.

    Raises:
        CheckpointError: In place of any `OSError` of the block.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        place = f" at {error.filename}" if error.filename else ""
        advice = "Check the path and its permissions."
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            advice = "Free some space, or write to another disk."
        raise CheckpointError(
            f"{out} could not be written: {reason}{place}. Nothing was left behind. {advice}"
        ) from error


def _check_free(out: Path, *, force: bool) -> None:
    if not os.path.lexists(out):
        return
    if not force:
        raise CheckpointError(
            f"{out} exists already; a new folder is expected. Choose another, or use force."
        )
    if not out.is_dir():
        raise CheckpointError(f"{out} exists and is not a folder; force replaces folders only. Move it away.")
    if not (out / MARK).exists() and any(out.iterdir()):
        raise CheckpointError(
            f"{out} exists and is no checkpoint (it has no {MARK}); force replaces checkpoint folders only, "
            "so that nothing else is lost. Choose another folder, or move this one away."
        )


def _make_parents(folder: Path) -> list[Path]:
    """Make `folder`; give what was made, innermost first."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    made: list[Path] = []
    try:
        for place in reversed(missing):
            place.mkdir(exist_ok=True)
            made.insert(0, place)
    except OSError:
        _remove_empty(made)
        raise
    return made


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _sibling(out: Path, kind: str) -> Path:
    return out.parent / f".{out.name[:60]}.biject-{os.getpid()}-{kind}-{secrets.token_hex(4)}"


def _put_in_place(temporary: Path, out: Path, *, force: bool) -> Path | None:
    aside = None
    try:
        if os.path.lexists(out):
            _check_free(out, force=force)
            aside = _sibling(out, "old")
            out.rename(aside)
        temporary.rename(out)
    except BaseException:
        if aside is not None and os.path.lexists(aside) and not os.path.lexists(out):
            aside.rename(out)
        raise
    with suppress(OSError):  # the folder is whole and in place; only its name's durability is at stake
        _sync(out.parent)
    return aside


def _remove(aside: Path) -> None:
    try:
        if aside.is_symlink():
            aside.unlink()
        else:
            shutil.rmtree(aside)
    except OSError as error:
        notice("old-folder-kept", f"The replaced folder could not be removed ({error}); it is now {aside}.")


def _sync_folders(top: Path) -> None:
    for place, _, _ in os.walk(top, topdown=False):
        _sync(Path(place))


def _sync(folder: Path) -> None:
    """Make renames and new names in `folder` durable, where the file system can do that to folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
