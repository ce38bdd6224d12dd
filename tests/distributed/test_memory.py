"""A rank of a sharded model gives the memory of gathered layers back; glibc by itself would not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "sharded_memory.py"
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heaps, and /proc")


def peaks(*flags: str) -> list[tuple[float, float]]:
    """Of each rank the peak of a forward pass and that of both passes, relative to the model."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--ranks", "2", "--gigabytes", "0.2", "--hidden", "512", *flags],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = re.findall(
        r"of a forward pass ([\d.]+), of forward and backward with gradients ([\d.]+)", done.stdout
    )
    assert len(found) == 2
    return [(float(forward), float(both)) for forward, both in found]


def test_the_memory_of_gathered_layers_is_given_back() -> None:
    ours, kept = peaks(), peaks("--keep-freed")
    for (forward, both), (forward_kept, both_kept) in zip(ours, kept, strict=True):
        assert forward < 0.5 + 0.4
        assert forward + 0.1 < forward_kept
        assert both + 0.1 < both_kept
