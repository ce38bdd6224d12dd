"""`biject version`."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from biject._version import __version__

PATIENCE_SECONDS = 2.0


def version(*, check: bool = False) -> int:
    """Print the version.

    Args:
        check: Ask pip's index for a newer one: two seconds at most, nothing off-line or in CI.
    """
    from biject.cli.console import print_lines

    newest = _newest() if check and not os.environ.get("CI") else None
    lines = [__version__]
    if newest is not None and _numbers(newest) > _numbers(__version__):
        lines.append(f"{newest} is there: pip install --upgrade biject")
    print_lines(lines)
    return 0


def _newest() -> str | None:
    """The newest release that this user's pip finds; None where it does not answer in time."""
    command = [sys.executable, "-m", "pip", "index", "versions", "biject", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"biject \(([\w.]+)\)", done.stdout)
    return found[1] if done.returncode == 0 and found else None


def _numbers(version: str) -> tuple[int, ...]:
    """`1.10.0rc1` as (1, 10, 0): enough to say what is newer."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("rc")[0])[:3])
