"""Folders that cannot be read and disks that are full, by the command line."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from biject.cli.main import main

from . import cases_files
from .folders import good

pytestmark = pytest.mark.attack("unreadable folders, full disks")

NOBODY = 65534


def biject(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "biject.cli.main", *map(str, arguments)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HOME": "/nonexistent",
        "PYTHONIOENCODING": "utf-8:strict",
    }
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=120, env=environment, **options
    )


def one_error(outcome: subprocess.CompletedProcess[str], *words: str) -> None:
    assert outcome.returncode == 2, outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.splitlines()[-1].startswith("biject: error: ")
    for word in words:
        assert word in outcome.stderr, outcome.stderr


def without_rights(tmp_path: Path, *arguments: object) -> tuple[int, str]:
    """Exit code and stderr of the command as somebody who may do nothing special.

    Where we are root, a child of this process changes its user; everything it needs was imported before.
    """
    given = [str(argument) for argument in arguments]
    warm = good(tmp_path.parent / f"{tmp_path.name}-warm")
    assert (
        main(["export", "--hub", str(warm), "--out", str(warm / ".." / f"{warm.name}-out"), "--force"]) == 0
    )
    assert main(["inspect", str(warm)]) == 0
    for place in (tmp_path, *tmp_path.parents):
        with suppress(PermissionError):
            place.chmod(place.stat().st_mode | 0o055)
    log = tmp_path.parent / f"{tmp_path.name}.log"
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
            sys.stderr = os.fdopen(2, "w")
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            code = main(given)
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), log.read_text()


@pytest.mark.parametrize("closed", [".", "config.json", "model.safetensors", "assets"])
def test_no_permission(tmp_path: Path, closed: str) -> None:
    folder = good(tmp_path / "folder")
    (folder / "assets").mkdir()
    (folder / closed).chmod(0)
    code, said = without_rights(tmp_path, "inspect", folder)
    (folder / closed).chmod(0o700)
    assert code == 2, said
    assert said.startswith("biject: error: ")
    assert "ermission" in said


def test_out_that_cannot_be_written(tmp_path: Path) -> None:
    folder = good(tmp_path / "folder")
    (tmp_path / "closed").mkdir(mode=0o555)
    code, said = without_rights(tmp_path, "export", "--hub", folder, "--out", tmp_path / "closed" / "out")
    assert code == 2, said
    assert said.startswith("biject: error: ")
    assert "ermission" in said


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB, where one can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=64", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=False)


def test_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    folder = good(tmp_path / "folder")
    (folder / "README.md").write_bytes(bytes(100_000))
    one_error(
        biject("export", "--hub", folder, "--out", small_disk / "out"), "No space left", "Free some space"
    )
    assert list(small_disk.iterdir()) == []


def test_a_limit_on_files(tmp_path: Path) -> None:
    folder = good(tmp_path / "folder")
    (folder / "README.md").write_bytes(bytes(1_000_000))
    limit = (500_000, 500_000)
    outcome = biject(
        "export",
        "--hub",
        folder,
        "--out",
        tmp_path / "out",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    one_error(outcome, "Free some space")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("name", ["a name that is not UTF-8", "a name with a line break"])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_names_that_cannot_be_printed(tmp_path: Path, name: str, options: list[str]) -> None:
    folder = good(tmp_path / "folder")
    cases_files.odd_files()[name](folder)
    outcome = biject("export", "--hub", folder, "--out", tmp_path / "out", *options)
    assert outcome.returncode == 0, outcome.stderr
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "case", ["index: path traversal", "pickle: code in a zip archive", "header: huge offsets"]
)
@pytest.mark.parametrize("command", [["inspect"], ["export", "--out", "out", "--hub"], ["verify-export"]])
def test_commands_end_in_one_error(tmp_path: Path, case: str, command: list[str]) -> None:
    kinds = {**cases_files.indexes(), **cases_files.pickles(), **cases_files.headers()}
    folder = (
        cases_files.sharded(tmp_path / "folder") if case.startswith("index") else good(tmp_path / "folder")
    )
    kinds[case](folder)
    one_error(biject(*command, folder, cwd=tmp_path))
    assert not (tmp_path / "out").exists()
    assert not (folder / "canary").exists()
