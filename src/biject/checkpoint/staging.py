"""A folder that appears whole or not at all: built beside its place, synced, then renamed. No torch."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from biject.checkpoint.exchange import clear_left_overs, ended_in_order, exchange, remove, sibling
from biject.checkpoint.replaceable import check_replaceable
from biject.checkpoint.truncated import UNFINISHED
from biject.errors import CheckpointError


@contextmanager
def staged_folder(out: Path, *, force: bool, written: Collection[str] = ()) -> Iterator[Path]:
    """Give a temporary folder beside `out`; at the end of the block it becomes `out`.

    Whatever fails, inside the block or after it, `out` and its surroundings are as before. With `force`, an
    older checkpoint at `out` changes places with it and is removed last. What killed processes left of the
    same folder is cleared away first.

    Args:
        out: The folder to make.
        force: Replace a checkpoint that is there.
        written: Names of the files that it will have.

    Raises:
        CheckpointError: `out` exists (without `force`), is no checkpoint folder, or the disk refuses.
    """
    with os_errors(out):
        clear_left_overs(out)
        _check_free(out, force=force, written=written)
        made = _make_parents(out.parent)
        temporary = _sibling(out, "new")
        with ended_in_order():
            try:
                temporary.mkdir()
                UNFINISHED.add(temporary)
                yield temporary
                _sync_folders(temporary)
                aside = _put_in_place(temporary, out, force=force, written=written)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                _remove_empty(made)
                raise
            finally:
                UNFINISHED.discard(temporary)
            if aside is not None:
                remove(aside)


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


def _check_free(out: Path, *, force: bool, written: Collection[str]) -> None:
    if not os.path.lexists(out):
        return
    if not force:
        raise CheckpointError(
            f"{out} exists already; a new folder is expected. Choose another, or use force."
        )
    if not out.is_dir():
        raise CheckpointError(f"{out} exists and is not a folder; force replaces folders only. Move it away.")
    check_replaceable(out, written=written)


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
    return sibling(out, kind, secrets.token_hex(4))


def _put_in_place(temporary: Path, out: Path, *, force: bool, written: Collection[str]) -> Path | None:
    """Give the temporary folder its name; what had it before, under the name that it has now."""
    aside = None
    try:
        if os.path.lexists(out):
            _check_free(out, force=force, written=written)
            if exchange(temporary, out):
                aside = temporary
            else:
                aside = _sibling(out, "old")
                out.rename(aside)
        if aside != temporary:
            temporary.rename(out)
    except BaseException:
        if aside is not None and os.path.lexists(aside) and not os.path.lexists(out):
            aside.rename(out)
        raise
    with suppress(OSError):  # the folder is whole and in place; only its name's durability is at stake
        _sync(out.parent)
    return aside


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
