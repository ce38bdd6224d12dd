"""Initial values of a new head, as Hugging Face draws them (modeling_utils.py, 5.23,
`_init_weights`).
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def initialise(name: str, tensor: Tensor, *, std: float) -> None:
    """Fill one new parameter: matrices normal, biases 0, norm scales 1. Draws from torch's global
    generator.
    """
    if name.endswith(".bias"):
        tensor.zero_()
    elif tensor.dim() == 1:
        tensor.fill_(1.0)
    else:
        tensor.normal_(mean=0.0, std=std)
