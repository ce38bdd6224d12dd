"""step.c and rows.c compiled by the machine's C compiler, for this very processor, and loaded."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from biject.nn.native.structures import MIRRORED, ROWS_MIRRORED
from biject.nn.probe import store

SOURCES = ("step.c", "products.h", "numbers.h")
ROWS = ("rows.c", "numbers.h")
_MATHS = (
    "-fassociative-math",
    "-fno-signed-zeros",
    "-fno-trapping-math",
    "-freciprocal-math",
    "-fno-math-errno",
)
"""Sums in any order. Not -ffast-math: gcc links start-up code to it that makes the whole process flush
subnormal numbers to zero, torch too.
"""
_PLAIN = ("-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-w")
_FLAGS = ("-std=gnu11", "-O3", *_MATHS, "-ffinite-math-only", "-fno-math-errno", "-fPIC", "-shared", "-w")
_TRIES = (("-march=native", "-mprefer-vector-width=512", "-fopenmp"), ("-march=native", "-fopenmp"), ())
"""Flags that a compiler may not know; without OpenMP one thread does all."""
_SECONDS = 120


def compiler() -> str | None:
    """The C compiler: `CC`, or cc, gcc or clang; None where there is none."""
    named = os.environ.get("CC")
    return (
        shutil.which(named) if named else next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled step; None where it cannot be compiled or does not load."""
    found = _opened(SOURCES, _FLAGS)
    if found is not None:
        found.biject_step.argtypes = [ctypes.c_void_p]
        found.biject_product.argtypes = [ctypes.c_void_p] * 3
        sizes = [found.biject_sizes(which) for which in range(len(MIRRORED))]
        assert sizes == [ctypes.sizeof(kind) for kind in MIRRORED], "structures.py does not mirror step.c"
    return found


@cache
def rows_library() -> ctypes.CDLL | None:
    """The compiled rows.c, likewise."""
    found = _opened(ROWS, _PLAIN)
    if found is not None:
        found.biject_attend.argtypes, found.biject_rows.argtypes = [ctypes.c_void_p], [ctypes.c_void_p] * 2
        found.biject_activate.argtypes, found.biject_activate.restype = [ctypes.c_void_p], None
        sizes = [found.biject_rows_sizes(which) for which in range(len(ROWS_MIRRORED))]
        assert sizes == [ctypes.sizeof(kind) for kind in ROWS_MIRRORED], (
            "structures.py does not mirror rows.c"
        )
    return found


def _opened(names: tuple[str, ...], flags: tuple[str, ...]) -> ctypes.CDLL | None:
    command = compiler()
    if command is None:
        return None
    here, stem = Path(__file__).parent, Path(names[0]).stem
    sources = b"".join((here / name).read_bytes() for name in names)
    conditions = {name: value for name, value in store.conditions().items() if name != "threads"}
    key = hashlib.sha256(sources + repr((flags, _TRIES, command, conditions)).encode()).hexdigest()[:24]
    try:
        folder = store.folder() / "native"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = (
            _loaded(folder / f"{stem}-{key}.so", command, here / names[0], flags)
            if _only_ours(folder)
            else None
        )
    except (OSError, RuntimeError):  # no home, or nothing can be written there
        kept = None
    if kept is not None:
        return kept
    try:  # nothing is kept where others could put a library of theirs, or where no code may run
        with tempfile.TemporaryDirectory() as once:
            return _loaded(Path(once) / f"{stem}.so", command, here / names[0], flags)
    except OSError:
        return None


def _only_ours(folder: Path) -> bool:
    """Whether nobody but this user can write there."""
    if not hasattr(os, "getuid"):
        return True
    found = folder.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _loaded(path: Path, command: str, source: Path, flags: tuple[str, ...]) -> ctypes.CDLL | None:
    if not path.is_file() and not _compiled(path, command, source, flags):
        return None
    try:
        return ctypes.CDLL(str(path))
    except OSError:  # damaged: once more
        pass
    if not _compiled(path, command, source, flags):
        return None
    try:
        return ctypes.CDLL(str(path))
    except OSError:  # nothing may run from there
        return None


def _compiled(path: Path, command: str, source: Path, flags: tuple[str, ...]) -> bool:
    """Compile beside `path`, then rename: other processes see a whole file or none."""
    for tried in _TRIES:
        handle, unfinished = tempfile.mkstemp(suffix=".so", dir=path.parent)
        os.close(handle)
        try:
            arguments = [command, *flags, *tried, str(source), "-o", unfinished, "-lm"]
            done = subprocess.run(arguments, capture_output=True, timeout=_SECONDS, check=False)
            if done.returncode == 0:
                Path(unfinished).replace(path)
                return True
        except (OSError, subprocess.SubprocessError):
            return False
        finally:
            Path(unfinished).unlink(missing_ok=True)
    return False
