"""`TrainState`: all that a run must remember to go on as if it had never stopped; written without pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from biject.errors import CheckpointError
from biject.train import ranks

JSON_FILE = "trainer_state.json"
TENSOR_FILE = "trainer_state.safetensors"
VERSION = 1


@dataclass(kw_only=True)
class TrainState:
    """Where a run stands; tensors (moments, generators) are kept by their owners."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    step_in_epoch: int = 0
    best_value: float | None = None
    best_step: int | None = None
    evaluations_without_better: int = 0
    stopped_early: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    """Results of evaluations, in order."""


def pack(
    state: TrainState, optimizer: Optimizer, schedule: LRScheduler | None, scaler: Any, config: dict[str, Any]
) -> dict[str, bytes]:
    """The two files of a checkpoint beside the model's: numbers as JSON, tensors as safetensors."""
    saved = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, values in saved["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value.detach().cpu().contiguous()
            else:
                plain.setdefault(str(index), {})[name] = value
    tensors |= _generators()
    text = {
        "version": VERSION,
        "num_ranks": ranks.count(),
        "state": asdict(state),
        "optimizer": {"groups": saved["param_groups"], "plain": plain},
        "schedule": schedule.state_dict() if schedule is not None else None,
        "scaler": scaler.state_dict() if scaler is not None else None,
        "config": config,
    }
    return {
        JSON_FILE: (json.dumps(text, indent=1) + "\n").encode("utf-8"),
        TENSOR_FILE: save(tensors, metadata={"format": "pt"}),
    }


def unpack(
    folder: Path, optimizer: Optimizer, schedule: LRScheduler | None, scaler: Any
) -> tuple[TrainState, dict[str, Any]]:
    """Put a checkpoint's state back; returns where the run stood and the config it had.

    Raises:
        CheckpointError: the files are missing or damaged, or belong to another optimizer or number of ranks.
    """
    try:
        text = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSOR_FILE)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder} is no checkpoint of a run, {JSON_FILE} or {TENSOR_FILE} cannot be read: {error}"
        ) from error
    except Exception as error:  # safetensors has an error class of its own
        raise CheckpointError(f"{folder}: {TENSOR_FILE} is damaged: {error}") from error
    if text.get("version") != VERSION:
        raise CheckpointError(f"{folder}: version {text.get('version')} of the state, expected {VERSION}.")
    if text["num_ranks"] != ranks.count():
        raise CheckpointError(
            f"{folder} was written by {text['num_ranks']} processes, this run has {ranks.count()}."
        )
    groups = text["optimizer"]["groups"]
    groups = [
        {k: tuple(v) if k == "betas" else v for k, v in group.items()}
        for group in text["optimizer"]["groups"]
    ]
    optimizer.load_state_dict({"state": _moments(text, tensors), "param_groups": groups})
    if schedule is not None and text["schedule"] is not None:
        schedule.load_state_dict(text["schedule"])
    if scaler is not None and text["scaler"] is not None:
        scaler.load_state_dict(text["scaler"])
    _restore_generators(tensors)
    return TrainState(**text["state"]), text["config"]


def _moments(text: dict[str, Any], tensors: dict[str, Tensor]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "optimizer":
            index, _, name = rest.partition(".")
            found.setdefault(int(index), {})[name] = tensor
    for index, values in text["optimizer"]["plain"].items():
        found.setdefault(int(index), {}).update(values)
    return found


def _generators() -> dict[str, Tensor]:
    """The random states of every rank."""
    own = torch.get_rng_state()
    states = [own]
    if ranks.count() > 1:
        torch.distributed.all_gather_object(states := [own] * ranks.count(), own)
    found = {f"generator.cpu.{index}": state for index, state in enumerate(states)}
    if torch.cuda.is_available():
        found |= {f"generator.cuda.{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return found


def _restore_generators(tensors: dict[str, Tensor]) -> None:
    torch.set_rng_state(tensors[f"generator.cpu.{ranks.rank()}"])
    cuda = [key for key in tensors if key.startswith("generator.cuda.")]
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([tensors[f"generator.cuda.{i}"] for i in range(len(cuda))])
