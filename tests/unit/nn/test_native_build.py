"""The C code is compiled where that works, and left out, without a traceback, where it does not."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from biject.nn.native import build
from biject.nn.probe import store

needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    build.rows_library.cache_clear()
    yield
    build.rows_library.cache_clear()


@needs_compiler
def test_a_file_system_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "folder", lambda: tmp_path)
    make = build.tempfile.mkstemp

    def refuse(*given: Any, **named: Any) -> Any:
        if Path(named["dir"]).is_relative_to(tmp_path):
            raise OSError(30, "Read-only file system")
        return make(*given, **named)

    monkeypatch.setattr(build.tempfile, "mkstemp", refuse)
    assert build.rows_library() is not None  # from a temporary folder
    assert not list((tmp_path / "native").iterdir())


@needs_compiler
def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(store, "folder", nowhere)
    assert build.rows_library() is not None


@needs_compiler
def test_a_folder_from_which_nothing_may_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a mount with `noexec` refuses: first the cache alone, then every folder."""
    monkeypatch.setattr(store, "folder", lambda: tmp_path)
    load = ctypes.CDLL

    def refuse(path: str) -> ctypes.CDLL:
        if Path(path).is_relative_to(tmp_path):
            raise OSError("failed to map segment from shared object")
        return load(path)

    monkeypatch.setattr(build.ctypes, "CDLL", refuse)
    assert build.rows_library() is not None
    build.rows_library.cache_clear()

    def never(path: str) -> ctypes.CDLL:
        raise OSError("failed to map segment from shared object")

    monkeypatch.setattr(build.ctypes, "CDLL", never)
    assert build.rows_library() is None
