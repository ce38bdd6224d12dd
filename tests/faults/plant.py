"""Faults to plant in the files of an export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

Tensors = dict[str, Tensor]


def edit_tensors(folder: Path, change: Callable[[Tensors], None]) -> None:
    """Rewrite `model.safetensors` after `change` has had its way with the tensors."""
    path = folder / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name).clone() for name in list(file.keys())}
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=metadata)


def edit_config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite `config.json`."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def flip_bit(tensor: Tensor, *, bit: int = 20, index: int = 7) -> None:
    """Flip one bit of one float32 number, in place."""
    whole = tensor.view(-1).view(torch.int32)
    whole[index] ^= 1 << bit


def swap(tensors: Tensors, one: str, other: str) -> None:
    for leaf in ("weight", "bias"):
        a, b = f"{one}.{leaf}", f"{other}.{leaf}"
        tensors[a], tensors[b] = tensors[b], tensors[a]
