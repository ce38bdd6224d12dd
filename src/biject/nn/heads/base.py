"""What all heads have, and the base model's: no head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biject.config.heads import BaseHeadConfig, DenseConfig, HeadConfig
from biject.config.model import ModelConfig
from biject.errors import InputError
from biject.events import notice
from biject.nn.activations import activation
from biject.nn.batch import Batch, HeadRequest, HeadRows
from biject.nn.layout import Layout
from biject.nn.modules import Linear, make_norm
from biject.nn.output import ModelOutput
from biject.nn.plan import BatchPlan
from biject.nn.rowwise import RowOp, row_ops

IGNORED = -100
"""Labels with this value take no part in a loss."""

_TARGETS = ("labels", "start_positions", "end_positions")


class Head(nn.Module):
    """The last module: rows of the last layer in, a `ModelOutput` out.

    Subclasses say which rows they read (`rows`) before the layers run, and compute them afterwards.
    """

    output_matrix: nn.Linear | None = None
    """The linear over the vocabulary of a language model: it may hold the token table."""
    targets: tuple[str, ...] = ("labels",)
    """Arguments that its loss is made from, all of them."""

    def __init__(self, config: ModelConfig, head: HeadConfig) -> None:
        super().__init__()
        self.config, self._model = head, config

    @property
    def pad_token_id(self) -> int | None:
        """The padding token's id, as the model's config has it now."""
        return self._model.pad_token_id

    def rows(self, batch: Batch, request: HeadRequest, *, packed: bool) -> HeadRows:
        """Which rows of the grid are read; `packed`: leaving out the others saves something.

        Raises:
            InputError: the request is not for this head.
        """
        if request.log_probs:
            raise InputError("`output_log_probs` is for causal language models.")
        if request.logits_at is not None:
            raise InputError("`logits_at` is for heads over a vocabulary; this one gives all its logits.")
        self.report_unused(request)
        return HeadRows()

    def report_unused(self, request: HeadRequest) -> None:
        """Say which targets have no effect; HF drops them in silence (5.23: `forward` takes any argument)."""
        given = [name for name in _TARGETS if getattr(request, name) is not None]
        if not given or given == list(self.targets):
            return
        found = " and ".join(f"`{name}`" for name in given)
        expected = " and ".join(f"`{name}`" for name in self.targets)
        does = f"makes its loss from {expected}, and from nothing else" if expected else "has no loss"
        notice(
            "unused-targets",
            f"Given {found}, but this model's head ({type(self).__name__}) {does}; the rest has no effect, "
            "as in transformers. Load the model with the class of the task, or leave it out.",
        )

    def output(self, x: Tensor) -> Tensor:
        """Logits of rows, where there is an output matrix: (…, D) → (…, V)."""
        assert self.output_matrix is not None
        logits: Tensor = self.output_matrix(x)
        return logits

    def row_kernels(self) -> frozenset[RowOp] | None:
        """What packed rows go through here; None if that is not known.

        Nothing, where a head gives its linears HF's own rows.
        """
        return frozenset()

    def forward(self, x_TD: Tensor, plan: BatchPlan) -> ModelOutput:
        raise NotImplementedError


class Dense(nn.Module):
    """Mix-in: the linear, activation and norm before the output, as `dense` and `norm` of the head itself."""

    def add_dense(self, hidden_size: int, config: DenseConfig | None) -> int:
        """Make them, and give the width of what comes out."""
        self.dense_config = config
        if config is None:
            return hidden_size
        self.dense = Linear(hidden_size, config.size, bias=config.bias)
        self.act = activation(config.act)
        self.norm = make_norm(config.norm, config.size)
        return config.size

    def features(self, x: Tensor) -> Tensor:
        """The output's inputs: (…, D) → (…, width)."""
        if self.dense_config is None:
            return x
        out: Tensor = self.norm(self.act(self.dense(x)))
        return out

    def dense_ops(self, *more: nn.Module) -> frozenset[RowOp] | None:
        """What rows go through, here and in further modules."""
        if self.dense_config is None:
            return row_ops(more)
        ops = row_ops((self.dense, self.norm, *more))
        act = RowOp("activation", self.dense_config.act, self.dense_config.size)
        return None if ops is None else ops | {act}


class BaseHead(Head):
    """Hidden states, and the first row through the pooler where the file has one."""

    targets = ()

    def __init__(self, config: ModelConfig, head: BaseHeadConfig) -> None:
        super().__init__(config, head)
        size = config.hidden_size
        self.pooler = Linear(size, head.pooler_size or size) if head.pooler else None
        self.act, self.first_row = activation(head.pooler_act), head.first_row

    def forward(self, x_TD: Tensor, plan: BatchPlan) -> ModelOutput:
        pooled = plan.layout.first(x_TD) if self.first_row else None
        if self.pooler is not None:
            pooled = self.act(self.pooler(plan.layout.first(x_TD)))
        return ModelOutput(last_hidden_state=plan.layout.grid(x_TD), pooler_output=pooled)


def pool(pooler: nn.Module | None, x_TD: Tensor, layout: Layout) -> Tensor:
    """The first row of each text, through BERT's pooler where there is one: (T, D) → (B, D)."""
    first_BD = layout.first(x_TD)
    return first_BD if pooler is None else torch.tanh(pooler(first_BD))
