"""Random generators that training draws from: torch's, NumPy's and Python's; seeded, kept, put back.

Dropout draws from torch's; a collator of the user's may draw from any of them. A checkpoint stores those of
every rank, so that what comes after it is drawn as if the run had never stopped.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from biject.errors import CheckpointError
from biject.train import ranks

_PREFIX = "generator"
_CUDA_STATE = 16
"""Bytes of a GPU generator's state: its seed and where it is."""


def seed_all(seed: int) -> None:
    """Seed all of them; ranks differ, so that they do not drop the same units."""
    own = seed + ranks.rank()
    random.seed(own)
    np.random.seed(own % 2**32)
    torch.manual_seed(own)


@contextmanager
def kept() -> Iterator[None]:
    """Whatever is drawn inside, what comes after is drawn as if it had not been."""
    before = _own_states()
    try:
        yield
    finally:
        _restore(before)


def collect() -> dict[str, Tensor]:
    """The states of every rank by name, for a checkpoint; every rank has to call it."""
    return {
        f"{_PREFIX}.{name}.{rank}": state
        for name, own in _own_states().items()
        for rank, state in enumerate(ranks.gather(own))
    }


def restore(tensors: Mapping[str, Tensor], *, folder: Path) -> bool:
    """Put this rank's states back; False where there are none, as the run had fewer ranks.

    Raises:
        CheckpointError: the first rank's are not there, or these are no states.
    """
    own = {}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition(".")
        name, _, rank = rest.rpartition(".")
        if kind == _PREFIX and rank == str(ranks.rank()):
            own[name] = tensor
    if not {"cpu", "numpy", "python"} <= own.keys():
        if not own and ranks.rank() > 0:
            return False
        raise CheckpointError(f"{folder} is damaged: no random generators of rank {ranks.rank()}.")
    try:
        _restore(own)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{folder} is damaged: the random generators' states: {error}.") from error
    return True


def _own_states() -> dict[str, Tensor]:
    """Each state as bytes in a uint8 tensor, on the CPU."""
    _, words, cached = random.getstate()
    python = np.array([*words, cached is not None], dtype=np.int64)
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    assert kind == "MT19937"
    found = {
        "cpu": torch.get_rng_state(),
        "python": _bytes(python, np.array([cached or 0.0])),
        "numpy": _bytes(np.asarray(keys), np.array([position, has_gauss], dtype=np.int64), np.array([gauss])),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found["cuda"] = torch.cuda.get_rng_state()
    elif ranks.mixed():  # all ranks have to gather as much; those on CPUs have no use for it
        found["cuda"] = torch.zeros(_CUDA_STATE, dtype=torch.uint8)
    return found


def _restore(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    on_gpu = torch.cuda.is_available() and (not ranks.mixed() or torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
    if "cuda" in states and on_gpu:
        torch.cuda.set_rng_state(states["cuda"])
    python = states["python"].numpy().tobytes()
    *words, has_cached = np.frombuffer(python[:-8], dtype=np.int64).tolist()
    random.setstate((3, tuple(words), float(np.frombuffer(python[-8:])[0]) if has_cached else None))
    numpy = states["numpy"].numpy().tobytes()
    position, has_gauss = np.frombuffer(numpy[-24:-8], dtype=np.int64).tolist()
    keys = np.frombuffer(numpy[:-24], dtype=np.uint32)
    np.random.set_state(("MT19937", keys, position, has_gauss, float(np.frombuffer(numpy[-8:])[0])))


def _bytes(*arrays: np.ndarray) -> Tensor:
    return torch.frombuffer(bytearray(b"".join(array.tobytes() for array in arrays)), dtype=torch.uint8)
