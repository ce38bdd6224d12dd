"""Trackers by name; each library is imported in its tracker's thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from biject.errors import InputError, MissingExtraError
from biject.track.background import Background
from biject.track.base import Tracker

_HOMES: Mapping[str, tuple[str, str]] = {
    "tensorboard": ("biject.track.tensorboard", "tensorboard"),
    "trackio": ("biject.track.trackio", "trackio"),
    "wandb": ("biject.track.wandb", "wandb"),
    "mlflow": ("biject.track.mlflow", "mlflow"),
}
"""The module of each, and the package that it needs."""
NAMES = tuple(_HOMES)


def check_tracker(name: str) -> None:
    """Refuse what cannot be used before work is done.

    Raises:
        InputError: There is no such tracker.
        MissingExtraError: Its package is not installed.
    """
    if name not in _HOMES:
        raise InputError(f"There is no tracker {name!r}; there are {', '.join(NAMES)}.")
    package = _HOMES[name][1]
    if find_spec(package) is None:
        raise MissingExtraError(f"The tracker {name} needs the package {package}: pip install {package}")


def make_tracker(name: str, folder: Path, *, run: str | None = None) -> Background:
    """A tracker in its own thread.

    Args:
        name: One of `NAMES`.
        folder: The run's folder, which has what the tracker keeps on this machine.
        run: The run's name; the folder's where left out.

    Raises:
        InputError, MissingExtraError: as `check_tracker`.
    """
    check_tracker(name)
    folder = folder.resolve()

    def make() -> Tracker:
        maker: Callable[[Path, str], Tracker] = import_module(_HOMES[name][0]).make
        return maker(folder, run or folder.name)

    return Background(name, make)
