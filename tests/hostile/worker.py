"""A process that meets hostile folders, one after another, and says how each ended, how long it took and how
much memory it needed. `Worker` is the parent's side; run as a program, this file is the child's.

Memory is the peak of the resident set above what the process had before (`VmHWM`, reset for each input), so
it is measured on Linux only.
"""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SECONDS = 1.0
MEGABYTES = 200.0
_LIMIT_BYTES = 6_000_000_000  # address space; torch alone maps more than half
PATIENCE_SECONDS = 30.0  # of the parent; a child that has not answered by then hangs


@dataclass(frozen=True)
class Outcome:
    """How one input ended: `ok`, `error` (ours), `crash` (any other exception), `died` or `hangs`."""

    word: str
    kind: str = ""
    message: str = ""
    step: str = ""
    seconds: float = 0.0  # of CPU time, as the machine is shared; the slowest step's
    wall_seconds: float = 0.0
    megabytes: float = 0.0

    @property
    def good(self) -> bool:
        """One of the two endings that are allowed, within the limits."""
        in_limits = self.seconds <= SECONDS and self.megabytes <= MEGABYTES
        return self.word in ("ok", "error") and in_limits and len(self.message) < 10_000


class Worker:
    """A child that is started when it is needed, and again when it has died."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None

    def meet(self, folder: Path) -> Outcome:
        """Let the child inspect and load `folder`."""
        child = self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(str(folder)) + "\n")
        child.stdin.flush()
        if not select.select([child.stdout], [], [], PATIENCE_SECONDS)[0]:
            self.close()
            return Outcome("hangs", wall_seconds=PATIENCE_SECONDS)
        line = child.stdout.readline()
        if not line:
            code = child.wait()
            self._child = None
            return Outcome("died", kind=f"exit code {code}")
        return Outcome(**json.loads(line))

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def _start(self) -> subprocess.Popen[str]:
        if self._child is None:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
            command = [sys.executable, __file__]
            self._child = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        return self._child


def steps() -> dict[str, Callable[[Path], object]]:
    """What is done with a folder; a step that raises our error does not keep the next from running."""
    from biject.inspection import inspect_folder
    from biject.pretrained import load

    def touch(folder: Path) -> None:
        for parameter in load(folder).parameters():
            parameter.sum()

    found: dict[str, Callable[[Path], object]] = {"inspect": inspect_folder, "load": touch}
    try:
        from biject.tokenization.tokenizer import load_tokenizer
    except ImportError:
        return found

    def tokenize(folder: Path) -> None:
        tokenizer = load_tokenizer(folder)
        tokenizer(["The quick brown fox, 1984. 日本語 🙂 مرحبا", ""])

    return {**found, "tokenizer": tokenize}


def attempt(folder: Path, todo: dict[str, Callable[[Path], object]]) -> Outcome:
    """Take all steps; the first ending that is not ours wins, then the first error, then success."""
    from biject.errors import BijectError

    before, seconds, wall = _resident(), 0.0, time.monotonic()
    word, kind, message, step = "ok", "", "", ""
    for name, do in todo.items():
        started = time.process_time()
        try:
            do(folder)
        except BijectError as error:
            if word == "ok":
                word, kind, message, step = "error", type(error).__name__, str(error), name
        except BaseException as error:
            word, kind, message, step = "crash", type(error).__name__, str(error)[:2000], name
            break
        finally:
            seconds = max(seconds, time.process_time() - started)
    megabytes = max(0.0, _resident(peak=True) - before)
    wall_seconds = time.monotonic() - wall
    return Outcome(word, kind, message, step, round(seconds, 4), round(wall_seconds, 4), round(megabytes, 1))


def _resident(*, peak: bool = False) -> float:
    """Megabytes of the resident set now, resetting the peak; or that peak."""
    try:
        if not peak:
            Path("/proc/self/clear_refs").write_text("5")
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    key = "VmHWM:" if peak else "VmRSS:"
    return next(float(line.split()[1]) / 1000 for line in text.splitlines() if line.startswith(key))


def main() -> None:
    """Answer folder names on stdin with outcomes on stdout; nothing else may reach stdout."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    todo = steps()
    resource.setrlimit(resource.RLIMIT_AS, (_LIMIT_BYTES, _LIMIT_BYTES))  # the machine is not ours alone
    for line in sys.stdin:
        outcome = attempt(Path(json.loads(line)), todo)
        answers.write(json.dumps(vars(outcome)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
