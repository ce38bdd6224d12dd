"""Give the parameters of a model on the meta device the tensors of its file."""

from __future__ import annotations

import torch
from torch import nn

from biject.checkpoint.bytes import DTYPES
from biject.checkpoint.reader import Reader
from biject.checkpoint.source import Source
from biject.codes import take_codes
from biject.config.stored_codes import StoredCodes
from biject.errors import ConfigError, WeightsError
from biject.events import notice
from biject.identify import Identity
from biject.model import Model
from biject.nn.init import initialise
from biject.quantize import quantised_linears


def place(
    model: Model, reader: Reader, dtype: torch.dtype, device: torch.device, *, codes: StoredCodes | None
) -> None:
    """Give every parameter its tensor.

    Raises:
        WeightsError: tensors whose shape or kind the config contradicts; all of them in one message.
    """
    faults, plan = [], model.provenance.plan
    homes = {name: module._parameters for name, module in model.named_modules()}
    quantised = dict(quantised_linears(model))
    for binding in plan.bindings:
        module, _, leaf = binding.memory.rpartition(".")
        tensor, meta = reader.tensor(binding.disk[0]), homes[module][leaf]
        assert meta is not None
        owner = quantised.get(module)
        if owner is not None and leaf == "weight" and codes is not None:
            take_codes(owner, binding.disk[0], codes, reader, dtype=dtype, device=device)
        elif tensor.shape != meta.shape or not tensor.is_floating_point():
            faults.append(
                f"`{binding.disk[0]}` should be floating of shape {tuple(meta.shape)} by config.json, found "
                f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
            )
        else:
            if owner is not None and leaf == "weight":
                owner.quantise(tensor, dtype=dtype, device=device)
                reader.forget(binding.disk[0])
            else:
                value = tensor.to(device=device, dtype=dtype)
                homes[module][leaf] = nn.Parameter(value, requires_grad=owner is None)
                if value.data_ptr() != tensor.data_ptr():  # a copy in another dtype or place
                    reader.forget(binding.disk[0])
    if faults:
        more = f"; and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise WeightsError(f"{model.source.folder}: " + "; ".join(faults[:8]) + more + ".")
    for binding in plan.initialized:
        made = torch.empty_like(model.get_parameter(binding.memory), dtype=torch.float32, device="cpu")
        initialise(binding.memory, made, **model.family.init(model.resolved_config, binding.memory)._asdict())
        module, _, leaf = binding.memory.rpartition(".")
        homes[module][leaf] = nn.Parameter(made.to(device=device, dtype=dtype))
    model.tie_weights()
    left = [
        f"{module}.{leaf}"
        for module, own in homes.items()
        for leaf, parameter in own.items()
        if parameter is not None and parameter.is_meta
    ]
    assert not left, f"no tensor for {left}"


def requested_dtype(requested: str | torch.dtype) -> torch.dtype | None:
    """The dtype that the caller wants, or None for the file's."""
    if isinstance(requested, torch.dtype):
        return requested
    if requested == "auto":
        return None
    found = getattr(torch, requested, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(f"dtype: expected 'auto' or a floating torch dtype, found {requested!r}.")
    return found


def file_dtype(identity: Identity, source: Source) -> torch.dtype:
    """The dtype of the tensors that the head uses; a file of several is loaded in the widest, with a
    notice.
    """
    used = {DTYPES[source.tensors[binding.disk[0]].dtype] for binding in identity.plan.bindings}
    floating = sorted((dtype for dtype in used if dtype.is_floating_point), key=str)
    if not floating:
        return torch.float32
    widest = floating[0]
    for other in floating[1:]:
        widest = torch.promote_types(widest, other)
    if len(floating) > 1:
        notice(
            "mixed-dtypes",
            f"The file mixes {', '.join(map(str, floating))}; parameters are loaded as {widest}.",
        )
    return widest
