"""A Ctrl-C that a library swallows while it is imported still ends the command."""

from __future__ import annotations

import os
import signal
import time
from typing import NoReturn

import pytest

from biject.cli import main as main_module
from biject.cli.interrupts import not_lost, stops_on_signals
from biject.train.stopping import StopRequest


def swallowed() -> None:
    """What an import of numpy does."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    except BaseException:
        return
    raise AssertionError("no signal came")


def test_what_a_module_imported_in_part_raises_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(_: object) -> NoReturn:
        swallowed()
        raise AttributeError("module 'numpy' has no attribute 'matrix'")

    monkeypatch.setattr(main_module, "_run", command)
    assert main_module.main(["inspect", "x"]) == 130
    assert capsys.readouterr().err == "biject: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def trained() -> None:
    with not_lost():
        swallowed()
        with stops_on_signals(StopRequest()):
            raise AssertionError("it began")


def test_a_run_does_not_begin_after_one() -> None:
    with pytest.raises(KeyboardInterrupt):
        trained()
    with stops_on_signals(StopRequest()):
        pass  # the next command of this process does


def failing(error: Exception, *, after: bool) -> None:
    with not_lost():
        if after:
            swallowed()
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(AttributeError):
        failing(AttributeError("a bug"), after=False)
    with pytest.raises(ValueError, match="a bug"):
        failing(ValueError("a bug"), after=True)
