"""Tiers `matmul` and `linear`: products without and with a bias, as torch and transformers compute them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from biject.nn.exact import min_rows
from biject.nn.modules import AddedBiasLinear, Linear, TransposedLinear
from biject.nn.rowwise import RowOp
from biject.verify.backends.common import check, library, random
from biject.verify.report import Check

SHAPES = ((1, 64, 48), (16, 64, 192), (37, 96, 64), (128, 256, 256))
"""Rows, inputs, outputs."""
VOCABULARY = (64, 64, 1000)
NEEDED = 18
"""Rows of the LM head's that are computed alone, or as many as keep their bits."""


def matmul(folder: Path) -> list[Check]:
    """Rows times a matrix, stored (out, in) and (in, out)."""
    del folder
    checks = []
    for rows, inputs, outputs in SHAPES:
        x, weight = random(rows, inputs, seed=0), random(outputs, inputs, seed=1)
        case = f"{rows} × {inputs} × {outputs}"
        plain = _filled(Linear(inputs, outputs, bias=False), weight=weight)
        checks.append(check("product", plain(x), torch.nn.functional.linear(x, weight), case=case))
        stored = weight.t().contiguous()
        bias = torch.zeros(outputs)
        turned = _filled(TransposedLinear(inputs, outputs), weight=stored, bias=bias)
        checks.append(check("transposed", turned(x), torch.addmm(bias, x, stored), case=case))
    return checks


def linears(folder: Path) -> list[Check]:
    """With a bias, fused and added, against torch's and HF's modules; an LM head, whole and labelled rows."""
    del folder
    conv1d = library("transformers.pytorch_utils", "'biject[verify]'").Conv1D
    checks = []
    for rows, inputs, outputs in SHAPES:
        x, weight, bias = (
            random(*shape, seed=2) for shape in ((rows, inputs), (outputs, inputs), (outputs,))
        )
        case, stored = f"{rows} × {inputs} × {outputs}", weight.t().contiguous()
        theirs = _filled(nn.Linear(inputs, outputs), weight=weight, bias=bias)
        ours = _filled(Linear(inputs, outputs), weight=weight, bias=bias)
        checks.append(check("bias", ours(x), theirs(x), case=case))
        added = _filled(AddedBiasLinear(inputs, outputs), weight=weight, bias=bias)
        checks.append(check("added bias", added(x), torch.matmul(x, weight.t()) + bias, case=case))
        hf = _filled(conv1d(outputs, inputs), weight=stored, bias=bias)
        turned = _filled(TransposedLinear(inputs, outputs), weight=stored, bias=bias)
        checks.append(check("Conv1D", turned(x), hf(x), case=case))
    rows, inputs, outputs = VOCABULARY
    x, weight = random(rows, inputs, seed=3), random(outputs, inputs, seed=4)
    ours = _filled(Linear(inputs, outputs, bias=False), weight=weight)
    theirs = _filled(nn.Linear(inputs, outputs, bias=False), weight=weight)
    checks.append(check("LM head", ours(x), theirs(x)))
    alone = min_rows(frozenset([RowOp("linear", "plain", inputs, outputs)]), NEEDED, rows, x.dtype)
    if alone is not None:  # else this machine's kernels give other bits, and all rows are computed
        name = "LM head, some rows of all"
        checks.append(check(name, ours(x[:alone]), theirs(x)[:alone]))
    return checks


def _filled(module: nn.Module, **values: Tensor) -> nn.Module:
    """The module with these parameters."""
    for name, value in values.items():
        setattr(module, name, nn.Parameter(value))
    return module.eval()
