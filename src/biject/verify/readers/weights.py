"""safetensors' own reader: every tensor has the bytes that Biject computes with."""

from __future__ import annotations

from importlib.metadata import version

from torch import Tensor

from biject.checkpoint.source import open_source
from biject.verify.readers.job import Job
from biject.verify.readers.result import Reading, Unreadable, same_tensors


def safetensors(job: Job) -> Reading:
    """Its tensors against the loaded model's parameters; what the model passes through is read by both."""
    from safetensors import safe_open

    source = open_source(job.folder)
    if source.format != "safetensors":
        raise Unreadable(f"the weights are a {source.format}")
    theirs: dict[str, Tensor] = {}
    for name in source.weight_files:
        with safe_open(job.folder / name, framework="pt") as file:
            theirs |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    return same_tensors(f"safetensors {version('safetensors')}", job.parameters(theirs), theirs, "weights")
