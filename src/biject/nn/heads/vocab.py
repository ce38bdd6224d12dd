"""Language models: logits over the vocabulary, for masked tokens or for each token's next one."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from biject.config.heads import VocabHeadConfig
from biject.config.model import ModelConfig
from biject.errors import InputError
from biject.nn.attend import capped
from biject.nn.batch import Batch, HeadRequest, HeadRows
from biject.nn.heads.base import IGNORED, Dense, Head
from biject.nn.loss import check_classes, next_labels, row_loss
from biject.nn.modules import AddedBiasLinear, Linear
from biject.nn.output import ModelOutput
from biject.nn.plan import BatchPlan
from biject.nn.rowwise import RowOp
from biject.nn.vocab_log_probs import vocab_log_probs
from biject.nn.vocab_loss import vocab_loss, vocab_scores


class VocabHead(Dense, Head):
    """Dense block (masked LM) and the output matrix, which may be the token table.

    Shape: (T, D) → (B, L, V), or (K, V) for K requested rows; with labels only the labelled rows' loss, or
    their log-probabilities, (B, L - 1).
    """

    def __init__(self, config: ModelConfig, head: VocabHeadConfig) -> None:
        super().__init__(config, head)
        self.causal, self.float32, self.softcap = head.causal, head.float32_loss, head.softcap
        size = self.add_dense(config.hidden_size, head.dense)
        kind = AddedBiasLinear if head.bias_added else Linear
        self.decoder = kind(size, config.vocab_size, bias=head.out_bias)

    @property
    def output_matrix(self) -> Linear:  # type: ignore[override]
        """The linear over the vocabulary."""
        return self.decoder

    def output(self, x: Tensor) -> Tensor:
        """Logits of the output's inputs."""
        logits: Tensor = self.decoder(x)
        return logits if self.softcap is None else capped(logits, self.softcap)

    def rows(self, batch: Batch, request: HeadRequest, *, packed: bool) -> HeadRows:
        self.report_unused(request)
        requested, targets = request.logits_at, self._targets(request)
        if requested is not None:
            if targets is not None:
                raise InputError("Give `labels` or `logits_at`, not both: a loss needs the labelled rows.")
            if requested.shape != batch.shape:
                raise InputError(
                    f"`logits_at` must be (batch, length) {tuple(batch.shape)}; found "
                    f"{tuple(requested.shape)}."
                )
            return HeadRows(some=True, read_BL=requested.to(torch.bool))
        if request.log_probs and (targets is None or not self.causal or targets.shape != batch.shape):
            raise InputError("`output_log_probs` is for causal language models, and needs `labels` (B, L).")
        if targets is None:
            return HeadRows()
        if targets.shape != batch.shape:
            return HeadRows(whole=True)
        return HeadRows(some=packed or request.log_probs, read_BL=targets != IGNORED)

    def row_kernels(self) -> frozenset[RowOp] | None:
        ops = self.dense_ops(self.decoder)
        if ops is None or self.softcap is None:
            return ops
        return ops | {RowOp("activation", "tanh", self.decoder.weight.shape[0])}

    def forward(self, x_TD: Tensor, plan: BatchPlan) -> ModelOutput:
        if plan.request.log_probs:
            return ModelOutput(log_probs=self._log_probs(x_TD, plan))
        if plan.grid_index_K is not None:
            return self._some(x_TD, plan, plan.grid_index_K)
        logits_BLV = plan.layout.grid(self.output(self.features(x_TD)))
        targets = self._targets(plan.request)
        loss = None if targets is None else row_loss(logits_BLV, targets, float32=self.float32)
        return ModelOutput(loss=loss, logits=logits_BLV)

    def _targets(self, request: HeadRequest) -> Tensor | None:
        """What each row predicts, (B, L): its label, or of a causal model the next row's."""
        labels = request.labels
        return next_labels(labels) if self.causal and labels is not None else labels

    def _some(self, x_TD: Tensor, plan: BatchPlan, index_K: Tensor) -> ModelOutput:
        """Logits at the requested rows, (K, V), or the loss of the labelled ones."""
        targets, fewest = self._targets(plan.request), plan.min_rows(1)
        if fewest is None or plan.min_rows(index_K.shape[0]) is None:
            return self._some_of_all(x_TD, plan, targets, index_K)
        x_KD = self.features(plan.head_rows(x_TD))
        if targets is None:
            return ModelOutput(logits=self.output(x_KD)[: index_K.shape[0]])
        fill = index_K.new_full((x_KD.shape[0] - index_K.shape[0],), 0)
        labels_K = check_classes(targets.reshape(-1), self.decoder.weight.shape[0]).index_select(0, index_K)
        labels_K, places_K = torch.cat([labels_K, fill + IGNORED]), torch.cat([index_K, fill])
        how: dict[str, Any] = {"float32": self.float32, "softcap": self.softcap}
        sizes: dict[str, Any] = {"total": plan.total, "fewest": fewest, **how}
        if torch.is_grad_enabled():
            return ModelOutput(loss=vocab_loss(x_KD, self.decoder, labels_K, places_K, **sizes))
        loss, best_K = vocab_scores(x_KD, self.decoder, labels_K, places_K, **sizes)
        found = _predictions(targets, index_K, best_K[: index_K.shape[0]])
        return ModelOutput(loss=loss, predictions=found)

    def _log_probs(self, x_TD: Tensor, plan: BatchPlan) -> Tensor:
        """(B, L - 1): of each label, at the place before its own."""
        targets, index_K = self._targets(plan.request), plan.grid_index_K
        assert targets is not None
        assert index_K is not None
        how: dict[str, Any] = {"float32": self.float32, "softcap": self.softcap}
        labels_G, fewest = check_classes(targets.reshape(-1), self.decoder.weight.shape[0]), plan.min_rows(1)
        if fewest is None or plan.min_rows(index_K.shape[0]) is None:
            x_GD = self.features(plan.layout.grid(x_TD).view(plan.total, -1))
            found_G = vocab_log_probs(x_GD, self.decoder, labels_G, fewest=plan.total, **how)
            found_K = found_G.index_select(0, index_K)
        else:
            x_KD, labels_K = self.features(plan.head_rows(x_TD)), labels_G.index_select(0, index_K)
            labels_K = F.pad(labels_K, (0, x_KD.shape[0] - labels_K.shape[0]))
            found_K = vocab_log_probs(x_KD, self.decoder, labels_K, fewest=fewest, **how)
            found_K = found_K[: index_K.shape[0]]
        grid_G = found_K.new_zeros(plan.total).index_put((index_K,), found_K)
        return grid_G.view(targets.shape)[:, :-1]

    def _some_of_all(
        self, x_TD: Tensor, plan: BatchPlan, targets: Tensor | None, index_K: Tensor
    ) -> ModelOutput:
        """The same from all of the grid's rows, where a row has HF's bits in its own place only."""
        logits_GV = self.output(self.features(plan.layout.grid(x_TD).view(plan.total, -1)))
        if targets is None:
            return ModelOutput(logits=logits_GV.index_select(0, index_K))
        loss = row_loss(logits_GV, targets, float32=self.float32)
        if torch.is_grad_enabled():
            return ModelOutput(loss=loss)
        best_K = logits_GV.index_select(0, index_K).argmax(-1)
        return ModelOutput(loss=loss, predictions=_predictions(targets, index_K, best_K))


def _predictions(targets: Tensor, index_K: Tensor, best_K: Tensor) -> Tensor:
    """(B, L): the likeliest entries where there are labels, -100 elsewhere."""
    predictions_G = torch.full_like(targets, IGNORED).reshape(-1)
    return predictions_G.index_copy(0, index_K, best_K).view_as(targets)
