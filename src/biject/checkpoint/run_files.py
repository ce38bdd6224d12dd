"""What a checkpoint of a training run has beside the model: it says nothing of a copy of the model."""

from __future__ import annotations

from collections.abc import Collection

STATE_FILES = JSON_FILE, TENSOR_FILE, MANIFEST = (
    "trainer_state.json", "trainer_state.safetensors", "checkpoint.json"
)  # fmt: skip
"""Progress, moments and generators, and the digests of all files."""
OPTIMIZER_FOLDER = "optimizer"
"""Moments of a sharded run."""


def run_files(names: Collection[str]) -> frozenset[str]:
    """Those of a folder's files that are a run's; none where one of the three is missing, as other programs
    write files of such names, too.
    """
    if not set(STATE_FILES).issubset(names):
        return frozenset()
    return frozenset(n for n in names if n in STATE_FILES or n.startswith(f"{OPTIMIZER_FOLDER}/"))
