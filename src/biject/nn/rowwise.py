"""What a module computes row by row, as it declares it, so that the probe can be asked about it.

A module says so in a method `row_ops` of its own class. Subclasses do not inherit the word: one that computes
something else has to say what, else nothing is claimed about its bits; nor where `row_ops` gives None.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from torch import nn

Form = Literal["bias", "plain", "transposed"]
"""A linear with a bias; without one; with one and the matrix stored (in, out)."""


class RowOp(NamedTuple):
    """One operation on rows."""

    kind: Literal["linear", "activation", "norm"]
    name: str
    """A linear's `Form`, an activation's name, a norm's kind."""
    inputs: int
    outputs: int = 0


_NOTHING = (nn.Dropout, nn.Identity, nn.ModuleList, nn.ModuleDict)
"""They do nothing to rows, or (dropout, in training) nothing that has bits to keep."""


def row_ops(modules: Iterable[nn.Module]) -> frozenset[RowOp] | None:
    """What these modules and all inside them compute row by row; None if one of them does not say."""
    found: set[RowOp] = set()
    left = list(modules)
    while left:  # once a batch: `Module.modules` takes three times as long
        module = left.pop()
        left.extend(inner for inner in module._modules.values() if inner is not None)
        kind = _own_class(type(module))
        if kind in _NOTHING:
            continue
        if "row_ops" not in kind.__dict__:
            return None
        own = module.row_ops()  # type: ignore[operator]
        if own is None:
            return None
        found.update(own)
    return frozenset(found)


def _own_class(kind: type) -> type:
    """The class under the one that `fully_shard` puts over it (torch.distributed.fsdp, FSDPModule)."""
    if kind.__bases__ and kind.__bases__[0].__name__ == "FSDPModule":
        return kind.__bases__[1]
    return kind
