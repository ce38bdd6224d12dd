"""0 passed, 1 a gate failed, 2 wrong usage or unusable input, 130 interrupted; one message, no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from biject.errors import CheckpointError
from biject.events import notice

WRONG = [
    (["cook"], "Unknown command"),
    (["export"], "--out"),
    (["export", "--out", "y"], "--hub"),
    (["export", "--out", "y", "--hub", "x", "--checkpoint", "z"], "--checkpoint"),
    (["export", "--out", "y", "--checkpoint", "z", "--revision", "main"], "--revision"),
    (["export", "--hub", "x"], "--out"),
    (["export", "--hub", "x", "--out", "y", "--head", "tail"], "--head"),
    (["export", "--hub", "x", "--out", "y", "--dtype", "float7"], "--dtype"),
    (["export", "--hub", "x", "--out", "y", "--no-force"], "--no-force"),
    (["inspect"], "DIR"),
    (["inspect", "a", "b"], "b"),
    (["inspect", "a", "--level", "names"], "--level"),
    (["verify-matrix", "--weights", "huge"], "--weights"),
    (["verify-export", "x", "--level", "names,,bytes"], "empty name"),
    (["verify-matrix", "--heads", "qa,qa"], "twice"),
    (["--verbose"], "--verbose"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG)
def test_wrong_usage(run, arguments, says) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("biject: error: ")
    assert says in outcome.err
    assert "Traceback" not in outcome.err


def test_wrong_usage_names_the_help_that_answers(run) -> None:
    assert "See `biject export --help`." in run("export").err
    assert "See `biject --help`." in run("cook").err


def test_unusable_input(run, tmp_path) -> None:
    outcome = run("inspect", tmp_path / "nothing")
    assert outcome.code == 2
    assert "does not exist" in outcome.err
    assert outcome.err.count("\n") == 1


def test_an_interrupt(run, monkeypatch, tiny) -> None:
    def interrupted(folder: object, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("biject.inspection.inspect_folder", interrupted)
    outcome = run("inspect", tiny)
    assert outcome.code == 130
    assert "Traceback" not in outcome.err


def test_a_bug_is_not_dressed_up_as_a_users_error(run, monkeypatch, tiny) -> None:
    def broken(folder: object, **_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("biject.inspection.inspect_folder", broken)
    with pytest.raises(ZeroDivisionError):
        run("inspect", tiny)


def test_notices_go_to_stderr_once(run, monkeypatch, tiny) -> None:
    def noticed(folder: object, **_: object) -> None:
        notice("odd", "this is odd")
        notice("odd", "this is odd")
        raise CheckpointError("and this is wrong")

    monkeypatch.setattr("biject.inspection.inspect_folder", noticed)
    outcome = run("inspect", tiny)
    assert outcome.err == "biject: note: this is odd\nbiject: error: and this is wrong\n"
    assert outcome.out == ""


def test_a_closed_pipe_is_quiet() -> None:
    command = f"{sys.executable} -m biject.cli.main families | true"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert done.returncode in (0, 141)
    assert done.stderr == ""
