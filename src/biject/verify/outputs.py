"""Outputs of two models, flattened to named tensors and compared one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from biject.verify.hf import quiet
from biject.verify.numbers import Distance, distance
from biject.verify.report import Check


def run(model: nn.Module, inputs: Mapping[str, Tensor], **flags: bool) -> dict[str, tuple[Tensor, ...]]:
    """Call a model without gradients; what it gives by name, e.g. `logits` -> (tensor,)."""
    with quiet(), torch.no_grad():
        return flatten(model(**inputs, **flags))


def flatten(output: Any) -> dict[str, tuple[Tensor, ...]]:
    """Name -> tensors; what is None or empty is left out."""
    items = output.items() if isinstance(output, Mapping) else vars(output).items()
    named: dict[str, tuple[Tensor, ...]] = {}
    for name, value in items:
        tensors = (
            (value,) if isinstance(value, Tensor) else tuple(value) if isinstance(value, list | tuple) else ()
        )
        if tensors and all(isinstance(tensor, Tensor) for tensor in tensors):
            named[name] = tensors
    return named


def without_random(
    outputs: Mapping[str, tuple[Tensor, ...]], missing: Sequence[str]
) -> Mapping[str, tuple[Tensor, ...]]:
    """HF's outputs less those of parameters that are in no file, which HF initialised at random.

    Args:
        outputs: From `run` or `flatten`.
        missing: HF's missing names: of a pooler, or of a new head.
    """
    if not missing:
        return outputs
    random = {"pooler_output"}
    if any(".pooler." not in f".{name}" for name in missing):
        random |= {
            name for name in outputs if name not in ("hidden_states", "last_hidden_state", "attentions")
        }
    return {name: value for name, value in outputs.items() if name not in random}


def compare_outputs(
    ours: Mapping[str, tuple[Tensor, ...]], theirs: Mapping[str, tuple[Tensor, ...]], *, case: str
) -> list[Check]:
    """One check per named output, in their order; an output that only one side has is a failure."""
    checks = []
    for name in [*theirs, *(name for name in ours if name not in theirs)]:
        mine, other = ours.get(name, ()), theirs.get(name, ())
        if len(mine) != len(other):
            detail = f"ours has {len(mine)} tensors, HF's {len(other)}"
            checks.append(Check(name=name, passed=False, detail=detail, case=case))
            continue
        checks.append(_compare(name, mine, other, case))
    return checks


def _compare(name: str, mine: tuple[Tensor, ...], other: tuple[Tensor, ...], case: str) -> Check:
    found = [distance(a, b) for a, b in zip(mine, other, strict=True)]
    worst: Distance = max(found, key=lambda d: (not d.same_bits, d.max_abs))
    dtype = other[0].dtype
    label = f"{name} {tuple(other[0].shape)}" if len(other) == 1 else f"{name} ({len(other)} tensors)"
    passed, detail = all(d.within(dtype) for d in found), worst.words(dtype)
    if not passed and len(found) > 1:
        first = next(i for i, d in enumerate(found) if not d.within(dtype))
        detail += f", from tensor {first} on"
    if mine[0].shape != other[0].shape:
        detail = f"ours has shape {tuple(mine[0].shape)}, HF's {tuple(other[0].shape)}"
    if any(bool(torch.isnan(tensor).any()) for tensor in (*mine, *other)):
        passed, detail = False, f"NaN in the output; {detail}"
    return Check(
        name=label, passed=passed, detail=detail, case=case, max_abs_diff=worst.max_abs, max_ulp=worst.max_ulp
    )
