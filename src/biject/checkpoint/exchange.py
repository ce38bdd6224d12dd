"""Put a finished folder in the place of an older one in one step, and clear up after processes that died."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import signal
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from biject.events import notice

LEFT_OVER = re.compile(
    r"\.(?P<name>.*)\.biject-(?P<pid>\d+)-(?P<kind>new|old)-(?P<token>[0-9a-f]+)", re.DOTALL
)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_MOST_NAME_BYTES = 150
_ENDING = ("SIGTERM", "SIGHUP")


def host() -> str:
    """Eight letters for this machine: process numbers of another one that writes here mean nothing."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def sibling(out: Path, kind: str, token: str) -> Path:
    """A hidden name beside `out` that tells whose it is; never longer than names may be."""
    data = out.name.encode(errors="surrogateescape")
    name = out.name
    if len(data) > _MOST_NAME_BYTES:  # two names that begin alike stay two
        name = f"{data[:_MOST_NAME_BYTES].decode(errors='ignore')}~{zlib.crc32(data):08x}"
    return out.parent / f".{name}.biject-{os.getpid()}-{kind}-{host()}{token}"


def exchange(one: Path, other: Path) -> bool:
    """Swap two names at once; False where the system or the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def clear_left_overs(out: Path) -> None:
    """Remove what processes that are gone left beside `out`; an older folder that one had moved aside, and
    whose place is empty, is put back.
    """
    if not out.parent.is_dir():
        return
    own = sibling(out, "new", "0")
    wanted = LEFT_OVER.fullmatch(own.name)
    for path in sorted(out.parent.iterdir(), key=lambda path: "-old-" not in path.name):
        found = LEFT_OVER.fullmatch(path.name)
        if not found or not wanted or found["name"] != wanted["name"]:
            continue
        if not found["token"].startswith(host()) or _runs(int(found["pid"])):
            continue
        if found["kind"] == "old" and not os.path.lexists(out):
            path.rename(out)
            notice("old-folder-restored", f"A killed process had moved {out} aside; it is back.")
        else:
            remove(path)


def clear(path: Path) -> None:
    """Remove what a process that is gone left; an older thing that it had moved aside goes back first."""
    found = LEFT_OVER.fullmatch(path.name)
    place = path.parent / found["name"] if found else path
    if found and found["kind"] == "old" and not os.path.lexists(place):
        path.rename(place)
        notice("old-folder-restored", f"A killed process had moved {place} aside; it is back.")
    else:
        remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder; what cannot be removed stays, with a notice."""
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path)
    except OSError as error:
        notice("old-folder-kept", f"The replaced folder could not be removed ({error}); it is now {path}.")


def _runs(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def ended_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as an exception does, so that what it began is cleared away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    mine = [number for number in numbers if before[number] is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number in mine:
            with suppress(ValueError):
                signal.signal(number, before[number])


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
