"""What a report says of the machine, the model and the memory; nothing that names a person or a place."""

from __future__ import annotations

import platform
import sys
from typing import Any

import torch

from biject._version import __version__
from biject.fallback.model import FallbackModel
from biject.model import Model
from biject.train import ranks


def environment(model: Model | FallbackModel) -> dict[str, Any]:
    """Versions, device, threads."""
    device = next(model.parameters()).device
    found: dict[str, Any] = {
        "biject": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "device": str(device),
        "threads": torch.get_num_threads(),
        "processes": ranks.count(),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = str(torch.version.cuda)
    return found


def facts(model: Model | FallbackModel) -> dict[str, Any]:
    """Family, head, sizes."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return {
        "family": str(model.source.config.get("model_type", "")),
        "head": model.head_name,
        "num_parameters": sum(count for count, _ in sizes),
        "num_trained": sum(count for count, trained in sizes if trained),
    }


def peak_memory(device: torch.device) -> dict[str, Any]:
    """The most memory that the process had at once: of its GPU, else its resident set."""
    if device.type == "cuda":
        return {
            "peak_memory_bytes": torch.cuda.max_memory_allocated(device),
            "peak_memory_of": "allocated on the GPU",
        }
    try:
        import resource
    except ImportError:  # not on every system
        return {}
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"peak_memory_bytes": peak, "peak_memory_of": "of the process"}
