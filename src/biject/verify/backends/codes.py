"""Tier `codes`: what a quantised linear holds and computes, against bitsandbytes' own modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biject.config.quantization import Quantization
from biject.nn.quantised import QuantisedLinear, bitsandbytes, quantised_linear
from biject.verify.backends.common import check, random
from biject.verify.report import Check

SIZES = (192, 128)
"""(out, in)."""
ROWS = 20


def quantised_codes(folder: Path) -> list[Check]:
    """Codes, scales, dequantised values and products of nf4 and fp4, scales quantised or not; int8.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    del folder
    library = bitsandbytes()
    weight, bias, x = random(*SIZES, seed=0), random(SIZES[0], seed=1), random(ROWS, SIZES[1], seed=2)
    checks = []
    for method in ("nf4", "fp4"):
        for double in (False, True):
            case = f"{method}, scales quantised" if double else method
            settings = Quantization(method=method, double_quant=double)
            ours, theirs = _ours(settings, weight, bias), _four_bit(library, settings, weight, bias)
            state = theirs.weight.quant_state
            checks.append(check("codes", ours.weight, theirs.weight, case=case))
            checks.append(check("absmax", ours.get_buffer("absmax"), state.absmax, case=case))
            if double:
                nested = ours.get_buffer("nested_absmax")
                checks.append(check("absmax of absmax", nested, state.state2.absmax, case=case))
                checks.append(check("offset", ours.get_buffer("offset"), state.offset, case=case))
            whole = library.functional.dequantize_4bit(theirs.weight.data, state)
            checks.append(check("dequantised", ours.dequantized_weight(), whole, case=case))
            checks.append(check("product", ours(x), theirs(x), case=case))
    return [*checks, *_eight_bit(library, weight, bias, x)]


def _ours(settings: Quantization, weight: Tensor, bias: Tensor) -> QuantisedLinear:
    plain = nn.Linear(*weight.shape[::-1])
    plain.weight, plain.bias = nn.Parameter(weight), nn.Parameter(bias)
    found = quantised_linear(settings, plain)
    found.quantise(weight, dtype=weight.dtype, device=weight.device)
    return found.train()


def _four_bit(library: Any, settings: Quantization, weight: Tensor, bias: Tensor) -> Any:
    theirs = library.nn.Linear4bit(
        *weight.shape[::-1],
        compute_dtype=torch.float32,
        compress_statistics=settings.double_quant,
        quant_type=settings.method,
    )
    theirs.load_state_dict({"weight": weight, "bias": bias})
    return theirs.to("cpu").train()  # in eval mode it may compute in bfloat16


def _eight_bit(library: Any, weight: Tensor, bias: Tensor, x: Tensor) -> list[Check]:
    ours = _ours(Quantization(method="int8"), weight, bias)
    theirs = library.nn.Linear8bitLt(*weight.shape[::-1], has_fp16_weights=False, threshold=6.0)
    theirs.load_state_dict({"weight": weight, "bias": bias})
    theirs = theirs.to("cpu").train()
    product = theirs(x)
    codes, scale = theirs.weight.CB, theirs.weight.SCB
    codes, scale = (theirs.state.CB, theirs.state.SCB) if codes is None else (codes, scale)
    return [
        check("codes", ours.weight, codes, case="int8"),
        check("scales", ours.get_buffer("scale"), scale, case="int8"),
        check("product", ours(x), product, case="int8"),
    ]
