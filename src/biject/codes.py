"""Codes that a checkpoint holds: read, checked against the config's sizes, put into quantised linears.

bitsandbytes' kernels read as many codes and scales as a shape says, wherever the tensors end: nothing reaches
them that was not checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from biject.checkpoint.bytes import tensor_bytes
from biject.checkpoint.reader import Reader
from biject.checkpoint.strict_json import parse_object
from biject.config.quantization import DTYPES
from biject.config.stored_codes import STATE, StoredCodes
from biject.errors import WeightsError, shown
from biject.nn.quantised import BLOCK, NESTED_BLOCK, EightBitLinear, FourBitLinear, QuantisedLinear

_LONGEST = 4096
"""Bytes of the JSON beside a matrix; bitsandbytes writes about 170."""


def take_codes(
    linear: QuantisedLinear,
    weight: str,
    stored: StoredCodes,
    reader: Reader,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Give a linear the codes and scales that stand in a file.

    Args:
        linear: without values yet.
        weight: the matrix's name in the file.
        stored: what belongs to it.
        reader: of the file.
        dtype: the model's; what 4-bit codes were made of is written beside them.
        device: where they go.

    Raises:
        WeightsError: a tensor is missing, or of another kind, shape or setting than the config says.
        CheckpointError: the settings beside a matrix are no JSON.
    """
    found = {role: reader.tensor(name) for role, name in stored.parts[weight].items()}
    found["codes"] = reader.tensor(weight)
    if isinstance(linear, FourBitLinear):
        _take_four(linear, weight, found, device)
    else:
        assert isinstance(linear, EightBitLinear)
        shape = (linear.out_features, linear.in_features)
        _check(weight, found, {"codes": (torch.int8, shape), "SCB": (torch.float32, shape[:1])})
        if int(found.get("weight_format", torch.zeros(())).reshape(-1)[0]) != 0:
            raise WeightsError(f"`{weight}`: its codes are not in rows (`weight_format`); write it again.")
        linear.dtype = dtype
        linear.hold(found["codes"].to(device), scale=found["SCB"].to(device))


def _take_four(linear: FourBitLinear, weight: str, found: Mapping[str, Tensor], device: torch.device) -> None:
    count = linear.in_features * linear.out_features
    blocks, nested = -(-count // BLOCK), linear.settings.double_quant
    needed: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "codes": (torch.uint8, ((count + 1) // 2, 1)),
        "absmax": (torch.uint8 if nested else torch.float32, (blocks,)),
        "quant_map": (torch.float32, (16,)),
    }
    if nested:
        needed["nested_absmax"] = (torch.float32, (-(-blocks // NESTED_BLOCK),))
        needed["nested_quant_map"] = (torch.float32, (256,))
    _check(weight, found, needed)
    state = _state(linear, weight, found)
    linear.dtype = getattr(torch, state["dtype"])
    offset = torch.tensor(float(state["nested_offset"])) if nested else None
    scales: dict[str, Tensor | None] = {
        "absmax": found["absmax"],
        "code": found["quant_map"],
        "nested_absmax": found["nested_absmax"] if nested else None,
        "nested_code": found["nested_quant_map"] if nested else None,
        "offset": offset,
    }
    moved = {name: None if scale is None else scale.to(device) for name, scale in scales.items()}
    linear.hold(found["codes"].to(device), **moved)


def _check(
    weight: str, found: Mapping[str, Tensor], needed: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
) -> None:
    for role, (dtype, shape) in needed.items():
        tensor = found.get(role)
        if tensor is None or tensor.dtype is not dtype or tuple(tensor.shape) != shape:
            kind = "nothing" if tensor is None else f"{_short(tensor.dtype)} {tuple(tensor.shape)}"
            raise WeightsError(
                f"`{weight}`: its {role} should be {_short(dtype)} {shape} by config.json, found {kind}."
            )


def _state(linear: FourBitLinear, weight: str, found: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings that stand beside a matrix, which have to be config.json's."""
    tensor = found.get(STATE)
    if tensor is None or tensor.dtype is not torch.uint8 or not 0 < tensor.numel() <= _LONGEST:
        raise WeightsError(f"`{weight}`: its `{STATE}` is missing, or is no text.")
    state = parse_object(bytes(tensor_bytes(tensor)), where=f"`{weight}.{STATE}`")
    needed: dict[str, Any] = {
        "quant_type": linear.settings.method,
        "blocksize": BLOCK,
        "shape": [linear.out_features, linear.in_features],
    }
    if linear.settings.double_quant:
        needed |= {"nested_blocksize": NESTED_BLOCK, "nested_dtype": "float32"}
    for key, value in needed.items():
        if state.get(key) != value:
            raise WeightsError(f"`{weight}`: its `{key}` should be {value!r}, found {shown(state.get(key))}.")
    if state.get("dtype") not in DTYPES:
        raise WeightsError(
            f"`{weight}`: its `dtype` should be a floating one, found {shown(state.get('dtype'))}."
        )
    offset = state.get("nested_offset", 0.0)
    if not isinstance(offset, float | int) or isinstance(offset, bool):
        raise WeightsError(f"`{weight}`: its `nested_offset` should be a number, found {shown(offset)}.")
    return state


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
