"""The dtype that config.json names: transformers 5 loads every tensor in it, whatever the file has."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any

import torch


def dtype_to_name(
    config: Mapping[str, Any],
    before: Mapping[str, torch.dtype],
    after: Mapping[str, torch.dtype],
    *,
    bound: Collection[str],
) -> torch.dtype | None:
    """The dtype that has to be named now, or None where what stands in config.json may stay.

    That is the dtype of all tensors where there is one, and other ones were there before. Where there are
    several (tensors that are passed through keep their own), it is the widest of the model's parameters, if
    the one that is named would round one that is not as it was.

    Args:
        config: config.json as it came.
        before: dtypes by name; only floating ones are looked at.
        after: the same of what is written.
        bound: names of the model's parameters.
    """
    found = {name: dtype for name, dtype in after.items() if dtype.is_floating_point}
    every = set(found.values())
    if len(every) == 1:
        return (
            next(iter(every)) if every != {one for one in before.values() if one.is_floating_point} else None
        )
    own = {name: dtype for name, dtype in found.items() if name in bound}
    changed = {dtype for name, dtype in own.items() if before.get(name) != dtype}
    said = getattr(torch, str(config.get("dtype", config.get("torch_dtype"))), None)
    if not changed or (isinstance(said, torch.dtype) and _widest({said, *changed}) == said):
        return None
    return _widest(set(own.values()))


def _widest(dtypes: set[torch.dtype]) -> torch.dtype:
    return functools.reduce(torch.promote_types, dtypes)
