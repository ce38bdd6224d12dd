"""Initial values of a new head, as Hugging Face draws them (modeling_utils.py, 5.23,
`_init_weights`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def initialise(name: str, tensor: Tensor, *, std: float, cutoff: float | None = None) -> None:
    """Fill one new parameter: matrices normal, biases 0, norm scales 1. Draws from torch's global
    generator.

    Args:
        name: of the parameter.
        tensor: its values.
        std: of a matrix.
        cutoff: where its distribution ends, in standard deviations; None: nowhere.
    """
    if name.endswith(".bias"):
        tensor.zero_()
    elif tensor.dim() == 1:
        tensor.fill_(1.0)
    elif cutoff is None:
        tensor.normal_(mean=0.0, std=std)
    else:
        nn.init.trunc_normal_(tensor, mean=0.0, std=std, a=-cutoff * std, b=cutoff * std)
