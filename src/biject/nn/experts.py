"""A mixture of experts: a router, and gated MLPs of which each row goes through a few.

Shapes: T rows, D hidden size, E experts, K chosen for a row, S = T × K rows of all experts, F inner size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biject.config.layers import ExpertsConfig
from biject.nn.activations import activation
from biject.nn.addresses import placed
from biject.nn.grouped import grouped_linear, joined, stacked_distance
from biject.nn.modules import Matrices
from biject.nn.rowwise import RowOp
from biject.nn.traces import emit

ROUTER_LOGITS = "router_logits"
"""The trace that a router hands out."""


class Expert(nn.Module):
    """The three matrices of one gated MLP."""

    def __init__(self, config: ExpertsConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj, self.up_proj = Matrices(weight=(inner, width)), Matrices(weight=(inner, width))
        self.down_proj = Matrices(weight=(width, inner))


class Experts(nn.Module):
    """Each row through the experts that its router likes most, their outputs weighted and added up.

    Rows are sorted by expert, so that each expert is one product over the rows that chose it: none is padded,
    none is left out. What is summed, and in which order, is what transformers' `grouped_mm` does, the
    default on the CPU.

    Shape: (T, D) → (T, D).
    Source: transformers 5.23, modeling_qwen3_moe.py (Qwen3MoeSparseMoeBlock), integrations/moe.py
    (grouped_mm_experts_forward); Shazeer et al. 2017, arXiv:1701.06538.
    """

    experts: nn.Module
    """`Expert`s; or, where the file stacks them, `gate_up_proj` (E, 2 F, D) and `down_proj` (E, D, F)."""

    def __init__(self, config: ExpertsConfig) -> None:
        super().__init__()
        self.config, self.act = config, activation(config.act)
        width, inner, count = config.hidden_size, config.intermediate_size, config.num_experts
        self.router = Matrices(weight=(count, width))
        if config.stacked:
            self.experts = Matrices(gate_up_proj=(count, 2 * inner, width), down_proj=(count, width, inner))
        else:
            self.experts = nn.ModuleList(Expert(config) for _ in range(count))

    def row_ops(self) -> tuple[RowOp, ...] | None:
        """None: which rows an expert computes together depends on all of them, and so do their bits."""
        return None

    def forward(self, x_TD: Tensor) -> Tensor:
        weights_TK, chosen_TK = self.route(x_TD)
        chosen_S, order_S = torch.sort(chosen_TK.reshape(-1))
        counts = torch.bincount(chosen_S, minlength=self.config.num_experts).tolist()
        x_SD = x_TD[order_S // self.config.num_experts_per_tok]
        ways, down = self._matrices()
        parts = len(ways) // len(down)
        gate_SF, up_SF = grouped_linear(x_SD, counts, ways, parts=parts).chunk(2, dim=-1)
        out_SD = grouped_linear(self.act(gate_SF) * up_SF, counts, down)
        out_SD = out_SD * weights_TK.reshape(-1)[order_S].unsqueeze(-1)
        back_S = torch.empty_like(order_S)
        back_S[order_S] = torch.arange(len(order_S), device=x_TD.device)
        out_TKD = out_SD[back_S].view(*chosen_TK.shape, -1)
        return out_TKD.sum(dim=1).to(x_TD.dtype)

    def route(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and numbers of each row's experts, (T, K) each, the likeliest first."""
        logits_TE = nn.functional.linear(x_TD, self.router.weight)
        emit(ROUTER_LOGITS, logits_TE)
        chances_TE = torch.softmax(logits_TE, dim=-1, dtype=torch.float32)
        weights_TK, chosen_TK = torch.topk(chances_TE, self.config.num_experts_per_tok, dim=-1)
        if self.config.norm_topk_prob:
            weights_TK /= weights_TK.sum(dim=-1, keepdim=True)
        return weights_TK.to(logits_TE.dtype), chosen_TK

    @torch.no_grad()
    def join(self) -> None:
        """Move trained experts to where they would begin in a stack, gate and way up side by side: their
        product then needs no copy.
        """
        experts = [one for one in self.experts.children() if isinstance(one, Expert)]
        for index, one in enumerate(experts):
            if one.gate_proj.weight.requires_grad:
                ways, down = (one.gate_proj.weight, one.up_proj.weight), one.down_proj.weight
                both = joined([way.data for way in ways])
                for way, place in zip(
                    ways, placed(both, stacked_distance(both, index)).chunk(2), strict=True
                ):
                    way.data = place
                down.data = placed(down.data, stacked_distance(down, index))

    def _matrices(self) -> tuple[list[Tensor], list[Tensor]]:
        """Gates with ways up, and ways down, as `grouped_linear` takes them."""
        own = self.experts
        if not isinstance(own, nn.ModuleList):
            return [own.get_parameter("gate_up_proj")], [own.get_parameter("down_proj")]
        experts = [one for one in own if isinstance(one, Expert)]
        ways: list[Tensor] = [part.weight for one in experts for part in (one.gate_proj, one.up_proj)]
        return ways, [one.down_proj.weight for one in experts]
