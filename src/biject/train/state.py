"""`TrainState`: all that a run needs to resume as if it had never stopped; written without pickle."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from biject.checkpoint.content import Content, Packed
from biject.checkpoint.run_files import JSON_FILE, TENSOR_FILE
from biject.distributed.sharding import like
from biject.errors import CheckpointError, shown
from biject.train import ranks
from biject.train.plain import from_plain, to_plain

VERSION = 1


@dataclass(kw_only=True)
class TrainState:
    """The progress of a run; tensors (moments, generators) are kept by their owners."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    step_in_epoch: int = 0
    num_samples: int | None = None
    """Of the data set, None for an iterable."""
    best_value: float | None = None
    best_step: int | None = None
    evaluations_without_better: int = 0
    stopped_early: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    """Results of evaluations, in order."""
    sync: dict[str, Any] = field(default_factory=dict)
    """How ranks share the work: see `Session`."""


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """A checkpoint's state as read: the run's progress, its settings, and its objects' states."""

    folder: Path
    state: TrainState
    config: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    schedule: Mapping[str, Any] | None
    scaler: Mapping[str, Any] | None
    tensors: Mapping[str, Tensor]
    num_ranks: int
    sealed: bool
    """The checkpoint has a manifest; an older Biject wrote none."""
    spread: bool
    """Moments lie apart, as ranks wrote them; where an older Biject did not say, they are looked for."""
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    """Of moments whose optimizer alone knows their shape, by name: theirs and their parameter's."""


def pack(
    state: TrainState,
    optimizer: Optimizer,
    schedule: LRScheduler | None,
    scaler: Any,
    config: Mapping[str, Any],
    drawn: Mapping[str, Tensor],
    *,
    copied: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    with_moments: bool = True,
) -> dict[str, Content]:
    """The two files of a checkpoint beside the model's: numbers as JSON, tensors as safetensors.

    The numbers are those of now; tensors are looked at when the file is written, unless `copied` copies them.

    Raises:
        CheckpointError: an optimizer or a schedule that keeps objects which only pickle could write.
    """
    saved = optimizer.state_dict()
    tensors = moments(optimizer) if with_moments else {}
    plain: dict[str, dict[str, Any]] = {}
    for index, values in saved["state"].items():
        for name, value in _flat(values).items():
            if not isinstance(value, Tensor):
                plain.setdefault(str(index), {})[name] = value
    objects = {
        "optimizer": {"groups": saved["param_groups"], "plain": plain},
        "schedule": schedule.state_dict() if schedule is not None else None,
        "scaler": scaler.state_dict() if scaler is not None else None,
    }
    text = {
        "version": VERSION,
        "sealed": True,
        "num_ranks": ranks.count(),
        "spread": not with_moments,
        "shapes": _own_shapes(optimizer),
        "state": asdict(state),
        **{name: to_plain(value, where=name) for name, value in objects.items()},
        "config": {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()},
    }
    return {
        JSON_FILE: (json.dumps(text, indent=1) + "\n").encode("utf-8"),
        TENSOR_FILE: Packed({name: copied(tensor) for name, tensor in {**tensors, **drawn}.items()}),
    }


def moments(optimizer: Optimizer) -> dict[str, Tensor]:
    """What an optimizer remembers in tensors, by name."""
    found: dict[str, Tensor] = {}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in _flat(values).items():
            if isinstance(value, Tensor):
                own = value.detach().clone() if name in _CODES else value.detach()  # tables are shared
                found[f"optimizer.{index}.{name}"] = own
    return found


def read_state(folder: Path) -> SavedState:
    """What a checkpoint remembers; nothing is changed yet.

    Raises:
        CheckpointError: the files are missing or damaged.
    """
    try:
        for name in (JSON_FILE, TENSOR_FILE):
            if not (folder / name).is_file():  # a pipe would be waited for
                raise OSError(f"{name} is no file")
        text = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
        tensors = load((folder / TENSOR_FILE).read_bytes())
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} is no checkpoint of a run, {JSON_FILE} or {TENSOR_FILE} cannot be read: {error}"
        ) from error
    version = text.get("version") if isinstance(text, dict) else None
    if version != VERSION:
        raise CheckpointError(f"{folder / JSON_FILE}: version {version} of the state, expected {VERSION}.")
    try:
        state = TrainState(**text["state"])
        _check_numbers(state, folder)
        return SavedState(
            folder=folder,
            state=state,
            config={key: tuple(v) if isinstance(v, list) else v for key, v in text["config"].items()},
            optimizer=from_plain(text["optimizer"]),
            schedule=from_plain(text["schedule"]),
            scaler=from_plain(text["scaler"]),
            tensors=tensors,
            num_ranks=_count(text["num_ranks"]),
            sealed=bool(text.get("sealed", False)),
            spread=bool(text.get("spread", True)),
            shapes={
                name: (tuple(both["moment"]), tuple(both["parameter"]))
                for name, both in text.get("shapes", {}).items()
            },
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / JSON_FILE} is damaged: {error!r}.") from error


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise TypeError(f"num_ranks is {value!r}")
    return value


def _check_numbers(state: TrainState, folder: Path) -> None:
    """Refuse a state whose counts are no counts, or whose step is not the one that its folder is named by."""
    for name in ("step", "epoch", "step_in_epoch"):
        value = getattr(state, name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
            raise CheckpointError(f"{folder / JSON_FILE} is damaged: `{name}` is {shown(value)}.")
    sync: Any = state.sync
    ranks_then = sync.get("ranks", 1) if isinstance(sync, dict) else None
    if not isinstance(ranks_then, int) or isinstance(ranks_then, bool) or not 1 <= ranks_then < 2**20:
        raise CheckpointError(f"{folder / JSON_FILE} is damaged: `sync` is {shown(sync)}.")
    named = re.fullmatch(r"step-(\d+)", folder.name)
    if named and int(named[1]) != state.step:
        raise CheckpointError(
            f"{folder / JSON_FILE} is damaged or of another checkpoint: its step is {state.step}."
        )


def restore(
    saved: SavedState,
    optimizer: Optimizer,
    schedule: LRScheduler | None,
    scaler: Any,
    *,
    own_moments: bool = False,
    spread: Mapping[str, Tensor] | None = None,
) -> None:
    """Put moments, schedule and scaler back.

    Args:
        saved: a checkpoint's state.
        optimizer: gets its moments.
        schedule: gets its place.
        scaler: gets its scale.
        own_moments: take this rank's, where every rank had its own.
        spread: the optimizer's tensors, where they were not written with the rest.

    Raises:
        CheckpointError: the state belongs to another optimizer or other parameters.
    """
    try:
        tensors = {**saved.tensors, **(spread or {})}
        rank = ranks.rank() % saved.num_ranks if own_moments else 0  # rank 0's have no prefix
        own = f"rank-{rank}." if rank else ""
        if not any(name.startswith(f"{own}optimizer.") for name in tensors):
            own = ""
        known = _moments(saved, tensors, own)
        _check_shapes(saved, optimizer, known)
        groups = [dict(group) for group in saved.optimizer["groups"]]
        _spread(optimizer, known)
        optimizer.load_state_dict({"state": known, "param_groups": groups})
        if schedule is not None and saved.schedule is not None:
            schedule.load_state_dict(dict(saved.schedule))
        if scaler is not None and saved.scaler is not None:
            scaler.load_state_dict(dict(saved.scaler))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{saved.folder}: the state does not fit this run's optimizer: {error}"
        ) from error


def _spread(optimizer: Optimizer, known: dict[int, dict[str, Any]]) -> None:
    """Of a model that is spread over ranks, what is kept of each parameter is spread as it is."""
    parameters = _parameters(optimizer)
    for index, values in known.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and not hasattr(value, "full_tensor"):
                values[name] = like(parameters[index], value)


def _moments(saved: SavedState, tensors: Mapping[str, Tensor], prefix: str) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        kind, _, rest = key.removeprefix(prefix).partition(".")
        if kind == "optimizer" and key.startswith(prefix):
            index, _, name = rest.partition(".")
            found.setdefault(int(index), {})[name] = tensor
    for index, values in saved.optimizer["plain"].items():
        found.setdefault(int(index), {}).update(values)
    return found


_WRAPPED = "__bnb_optimizer_quant_state__"
"""Under which bitsandbytes keeps codes and scales in a state dict; it reads them without, too."""


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's state without bitsandbytes' wrapper."""
    return {**{name: value for name, value in values.items() if name != _WRAPPED}, **values.get(_WRAPPED, {})}


_CODES = {"qmap1": 1, "qmap2": 1, "absmax1": 256, "absmax2": 256}
"""What bitsandbytes keeps of 8-bit moments: a table of 256 values; a scale for every 256 of them."""
_FACTORS = ("row_var", "col_var")
"""What Adafactor keeps of a matrix's second moments: a column and a row."""
_WHOLE = ("exp_avg", "exp_avg_sq", "momentum_buffer")
"""What has its parameter's shape in every optimizer."""


def _fits(name: str, moment: Tensor, parameter: Tensor) -> bool:
    """Whether a moment has the parameter's shape, or 1 in the place of a size where it is a factor."""
    if name in _CODES:
        expected = 256 if _CODES[name] == 1 else -(-parameter.numel() // _CODES[name])
        return moment.shape == (expected,)
    if name not in _FACTORS:
        return moment.shape == parameter.shape
    sizes = zip(moment.shape, parameter.shape, strict=False)
    return moment.dim() == parameter.dim() and all(own in (1, size) for own, size in sizes)


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _own_shapes(optimizer: Optimizer) -> dict[str, dict[str, list[int]]]:
    """Of moments that are known by no rule, such as the rows of transformers' Adafactor."""
    found, parameters = {}, _parameters(optimizer)
    for key, moment in moments(optimizer).items():
        _, index, name = key.split(".", 2)
        parameter = parameters[int(index)]
        if moment.dim() and name not in _WHOLE and not _fits(name, moment, parameter):
            found[key] = {"moment": list(moment.shape), "parameter": list(parameter.shape)}
    return found


def _check_shapes(saved: SavedState, optimizer: Optimizer, moments: dict[int, dict[str, Any]]) -> None:
    """Torch would take moments of any shape, and fail in the step or compute something else."""
    sizes = [len(group["params"]) for group in saved.optimizer["groups"]]
    own = [len(group["params"]) for group in optimizer.param_groups]
    if sizes != own:
        raise ValueError(f"its groups have {sizes} parameters, this run's {own}")
    parameters = _parameters(optimizer)
    for index, values in moments.items():
        for name, value in values.items():
            if not isinstance(value, Tensor) or not value.dim() or _fits(name, value, parameters[index]):
                continue
            both = tuple(value.shape), tuple(parameters[index].shape)
            if name in _WHOLE or saved.shapes.get(f"optimizer.{index}.{name}") != both:
                raise ValueError(
                    f"{name} of parameter {index} is {tuple(value.shape)}, the parameter "
                    f"{tuple(parameters[index].shape)}"
                )
