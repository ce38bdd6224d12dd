"""MFU: the FLOPs that a model needs for its real tokens, as a share of what the device can do.

Source: Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, appendix B. What is needed is counted from the config
(padding and recomputation are no work); what the devices can do is in `peaks.py`. Where measured, it is
behind the last step, so that none comes after its allocations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from biject.adapters.state import AdapterSet
from biject.config.flops import TextBatch, training_flops
from biject.fallback.model import FallbackModel
from biject.model import Model
from biject.runs.peaks import peak
from biject.train import ranks

MOST_BATCHES = 64
"""Counted; the others are taken to need as many FLOPs a token."""


class Flops:
    """FLOPs a token, from a run's first batches."""

    def __init__(self, model: Model | FallbackModel) -> None:
        self.model = model
        trained = {name.rpartition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
        known = {name.rpartition(".")[0] for name, _ in model.named_parameters()}
        self._trained = lambda name: name in trained or name not in known
        adapters = model.adapters.adapters.values() if isinstance(model.adapters, AdapterSet) else ()
        self._ranks: Counter[str] = Counter()
        for adapter in adapters:
            self._ranks.update({name: part.lora_A.shape[0] for name, part in adapter.parts.items()})
        self.flops = self.tokens = self.batches = 0

    def count(self, batch: Mapping[str, Tensor]) -> None:
        """One more training batch."""
        if self.batches >= MOST_BATCHES or not isinstance(self.model, Model):  # of another, nothing is known
            return
        lengths = [int(length) for length in batch["attention_mask"].sum(-1) if length]
        labels = batch.get("labels")
        by_token = isinstance(labels, Tensor) and labels.shape == batch["input_ids"].shape
        labelled = int((labels != -100).sum()) if by_token and labels is not None else None
        sizes = TextBatch(lengths=lengths, labelled=labelled, multiple=1)
        self.flops += training_flops(
            self.model.config, sizes, trained=self._trained, rank=self._ranks.__getitem__
        )
        self.tokens += sum(lengths)
        self.batches += 1

    def to_json(self, *, tokens_per_second: float | None, dtype: torch.dtype) -> dict[str, Any]:
        """`flops_per_token` and, of all processes together, `mfu` with what it was measured against.

        Every process calls it, with the same tokens a second: those of all of them. Each measures its own
        device at the same time as the others, so that processes on one CPU share what it can do.
        """
        (counted,) = ranks.largest(self.flops / self.tokens if self.tokens else 0.0)
        device = next(self.model.parameters()).device
        ranks.wait()
        own, of = peak(device, dtype)
        (whole,) = ranks.totals(own)
        if not counted:
            return {}
        found: dict[str, Any] = {"flops_per_token": round(counted)}
        if tokens_per_second:
            found["mfu"] = counted * tokens_per_second / whole
            found["peak_flops"] = round(whole)
            found["peak_of"] = of if ranks.count() == 1 else f"{of}, {ranks.count()} processes"
        return found
