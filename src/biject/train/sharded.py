"""Models that are spread over ranks: their optimizer's state by DCP, and ranks that only take part.

DCP writes safetensors here (its own format has a pickled index), each rank its part; a run with other numbers
of ranks, or with one, reads what it needs of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as _dcp
from torch import Tensor, nn
from torch.optim import Optimizer

from biject.checkpoint.content import Content
from biject.checkpoint.run_files import OPTIMIZER_FOLDER
from biject.distributed.sharding import empty_like_saved
from biject.errors import CheckpointError
from biject.train import ranks
from biject.train.predict import outputs_of

dcp: Any = _dcp
FOLDER = OPTIMIZER_FOLDER


@dataclass(frozen=True)
class Idle:
    """A batch that counts for nothing: its rank takes part in gathering and summing, as all have to."""

    batch: Any


def idle_loss(model: nn.Module, idle: Idle) -> Tensor:
    """Zero, with a gradient of zeros for every parameter."""
    batch = idle.batch
    if isinstance(batch, Mapping):
        given = {name: value for name, value in batch.items() if not name.endswith(("labels", "positions"))}
        outputs = outputs_of(model(**given | {k: v for k, v in batch.items() if k == "position_ids"}))
    else:
        outputs = outputs_of(model(batch[0] if isinstance(batch, list | tuple) else batch))
    return sum((output.float().sum() for output in outputs), torch.zeros(())) * 0.0


def padded(shares: list[list[list[int]]]) -> tuple[list[list[list[int]]], list[list[bool]]]:
    """As many batches for every rank, and which of them count: where one has fewer, a sample of the step."""
    most = max(len(share) for share in shares)
    some = next(batch[:1] for share in shares for batch in share if batch)
    counts = [[bool(batch) for batch in share] + [False] * (most - len(share)) for share in shares]
    full = [[batch or some for batch in share] + [some] * (most - len(share)) for share in shares]
    return full, counts


@contextmanager
def written(tensors: Mapping[str, Tensor], folder: Path) -> Iterator[dict[str, Content]]:
    """Write tensors that are spread over ranks beside `folder`, for as long as the block copies the files.

    Raises:
        CheckpointError: the disk refuses.
    """
    place = folder.parent / f".{folder.name}.biject-{FOLDER}"
    try:
        ranks.on_first(lambda: _clear(place))
        writer = dcp.HuggingFaceStorageWriter(str(place), save_distributed=True)
        with _quiet():
            dcp.save(dict(tensors), storage_writer=writer, process_group=ranks.own_group())
        yield {f"{FOLDER}/{path.name}": path for path in sorted(place.iterdir())}
    except (OSError, dcp.api.CheckpointException) as error:
        raise CheckpointError(f"{place} could not be written: {error}.") from error
    finally:
        ranks.on_first(lambda: _clear(place))


def _clear(place: Path) -> None:
    for path in place.iterdir() if place.is_dir() else ():
        path.unlink()
    if place.is_dir():
        place.rmdir()


def read(folder: Path, optimizer: Optimizer) -> dict[str, Tensor]:
    """An optimizer's tensors from a checkpoint of a sharded run, each rank its part; empty without any.

    Raises:
        CheckpointError: they are damaged, or of other parameters.
    """
    place = folder / FOLDER
    if not place.is_dir():
        return {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    try:
        with _quiet():
            said = dcp.HuggingFaceStorageReader(str(place)).read_metadata().state_dict_metadata
            sizes = {name: (one.size, one.properties.dtype) for name, one in said.items()}
            found = empty_like_saved(sizes, parameters)
            dcp.load(dict(found), storage_reader=dcp.HuggingFaceStorageReader(str(place)))
    except Exception as error:  # DCP wraps whatever happened, and safetensors has errors of its own
        raise CheckpointError(f"{place} is damaged, or of another model: {error}.") from error
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    if dist.is_initialized():  # nothing to warn of; filters are of all threads
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
