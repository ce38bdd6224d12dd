"""`ModelOutput`: named results with HF's names, readable as attributes, by name and by index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from biject.nn.batch import HeadRequest
from biject.nn.named import Named
from biject.nn.traces import Traces


@dataclass(frozen=True, kw_only=True)
class ModelOutput(Named):
    """What a call returns; fields that do not apply are None and are skipped by `keys` and indices.

    Shapes: `loss` (); `logits` (B, N), (B, L, N) or (B, L, V); `start_logits`, `end_logits` (B, L);
    `last_hidden_state` (B, L, D); `pooler_output` (B, D); `hidden_states` one (B, L, D) for the
    first layer's input and one after every step; `attentions` one (B, H, L, L) a step; `router_logits` one
    (B × L, E) for every layer with experts, `aux_loss` () their balance; `predictions` (B, L)
    where a vocabulary head computed labelled rows only, without gradients: the likeliest ids there, -100
    elsewhere; `log_probs` (B, L - 1) of labels, each at the place before its own, 0 where there is none;
    `cls_logits`, `distillation_logits` (B, N) of DeiT's two heads, whose mean `logits` is.
    """

    loss: Tensor | None = None
    aux_loss: Tensor | None = None
    logits: Tensor | None = None
    start_logits: Tensor | None = None
    end_logits: Tensor | None = None
    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    router_logits: tuple[Tensor, ...] | None = None
    predictions: Tensor | None = None
    log_probs: Tensor | None = None
    cls_logits: Tensor | None = None
    distillation_logits: Tensor | None = None

    def with_traces(
        self, request: HeadRequest, traces: Traces, grid: Callable[[Tensor], Tensor]
    ) -> ModelOutput:
        """With what was recorded of the layers, where it was requested; `grid`: rows → (B, L, D)."""
        if not request.trace_names:
            return self
        return replace(
            self,
            hidden_states=tuple(map(grid, traces["hidden"])) if request.hidden_states else None,
            attentions=traces["attentions"] if request.attentions else None,
            router_logits=tuple(grid(one).flatten(0, 1) for one in traces["router_logits"])
            if request.router_logits
            else None,
        )
