"""Encoders whose linears are held in 8 bits, for inference."""

from __future__ import annotations

from pathlib import Path

import torch

from biject.config.quantization import Quantization
from biject.errors import InputError
from biject.nn.kernels import Numerics
from biject.nn.native.int8 import to_int8
from biject.pretrained import PretrainedModel, load


def in_8_bits(
    folder: Path,
    quantization: str,
    *,
    dtype: str | torch.dtype,
    device: torch.device,
    numerics: Numerics | None,
) -> PretrainedModel:
    """Load a base model and round its layers' linears; embeddings and norms stay in float32.

    Raises:
        InputError: Another kind than `int8`, another device than the CPU, another dtype, or `exact`.
        BijectError: The folder cannot be loaded.
    """
    if quantization != "int8":
        raise InputError(f"`quantization` of an encoder is 'int8' or left out; found {quantization!r}.")
    if device.type != "cpu":
        raise InputError(f"quantization='int8' computes on the CPU; found the device {str(device)!r}.")
    if str(dtype).removeprefix("torch.") not in ("auto", "float32"):
        raise InputError(
            f"quantization='int8' computes between the products in float32; found dtype={dtype!r}."
        )
    if numerics == "exact":
        raise InputError("quantization='int8' has no exact numerics; leave `numerics` out.")
    model = load(folder, head="base", dtype="float32", device=device, numerics="fast")
    to_int8(model.layers)
    model.quantization = Quantization(method="int8")
    return model
