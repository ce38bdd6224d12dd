"""What the numbers depend on: versions, threads, dtype, backend, and this machine's kernels."""

from __future__ import annotations

import platform
from typing import Any

import torch

from biject.nn.probe import measured


def environment(*, dtype: torch.dtype | None = None, attention: str | None = None) -> dict[str, Any]:
    """For a report's head: everything that a claim of equal bits depends on."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for package in ("biject", "transformers", "safetensors", "tokenizers"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed as a package"
    return {
        "versions": versions,
        "device": "cpu",
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "dtype": None if dtype is None else str(dtype).removeprefix("torch."),
        "attention backend": attention,
        "kernel probe": measured(),
    }
