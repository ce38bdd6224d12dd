"""How evenly experts are used: the part of a language model's loss that is about its routers alone.

Source: transformers 5.23, modeling_qwen3_moe.py (load_balancing_loss_func); Fedus et al. 2021,
arXiv:2101.03961, equations 4 to 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from biject.config.layers import ExpertsConfig
from biject.config.model import ModelConfig
from biject.nn.output import ModelOutput


def with_balance(output: ModelOutput, config: ModelConfig, mask_BL: Tensor | None) -> ModelOutput:
    """A language model's output with `aux_loss`, a share of which its loss has, if routers were traced."""
    experts = next((one.mlp for one in config.layers if isinstance(one.mlp, ExpertsConfig)), None)
    if experts is None or not output.router_logits or config.head.routers != "balanced":
        return output
    balance = balance_loss(output.router_logits, experts.num_experts_per_tok, mask_BL)
    loss = None if output.loss is None else output.loss + config.router_aux_loss_coef * balance
    return replace(output, aux_loss=balance, loss=loss)


def balance_loss(logits: Sequence[Tensor], top_k: int, mask_BL: Tensor | None = None) -> Tensor:
    """The share of rows that chose an expert times its mean probability, over experts, times their number.

    Args:
        logits: of each layer's router, (B × L, E).
        top_k: experts that a row chooses.
        mask_BL: nonzero where a token is real; None where all are.
    """
    count = logits[0].shape[-1]
    chosen_E = logits[0].new_zeros(count, dtype=torch.float32)
    chances_E = torch.zeros_like(chosen_E)
    total: Tensor | float = 0.0
    real_T = None if mask_BL is None else mask_BL.reshape(-1).to(chosen_E.dtype)
    for logits_TE in logits:
        chances_TE = torch.softmax(logits_TE, dim=-1)
        numbers_TK = torch.topk(chances_TE, top_k, dim=-1).indices
        each_S = torch.ones_like(numbers_TK, dtype=torch.float32).reshape(-1)
        if real_T is not None:
            each_S = real_T.repeat_interleave(top_k)
        chosen_E = chosen_E + torch.zeros_like(chosen_E).scatter_add_(0, numbers_TK.reshape(-1), each_S)
        wide_TE = chances_TE.float()
        wide_TE = wide_TE if real_T is None else wide_TE * real_T.unsqueeze(-1)
        chances_E = chances_E + wide_TE.sum(dim=0)
        total = total + (len(logits_TE) if real_T is None else real_T.sum())
    return torch.sum(chosen_E / total * (chances_E / total).unsqueeze(0)) * count
