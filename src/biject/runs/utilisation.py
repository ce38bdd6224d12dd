"""MFU: the FLOPs that a model needs for its real tokens, as a share of what the device can do.

Source: Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, appendix B. What is needed is counted from the config
(padding and recomputation are no work); what the device can do is measured with one large product of matrices
in the precision of the run. It is measured behind the run's end, so that no step comes after its allocations.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from biject.config.flops import TextBatch, training_flops
from biject.model import Model
from biject.train import ranks

MOST_BATCHES = 64
"""Counted; the others are taken to need as many FLOPs a token."""
_REPEATS = 5
_SIZES = {"cpu": 1024, "cuda": 8192}


class Flops:
    """FLOPs a token, from a run's first batches."""

    def __init__(self, model: Model) -> None:
        self.model = model
        trained = {name.rpartition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
        known = {name.rpartition(".")[0] for name, _ in model.named_parameters()}
        self._trained = lambda name: name in trained or name not in known
        adapters = () if model.adapters is None else model.adapters.adapters.values()
        self._ranks: Counter[str] = Counter()
        for adapter in adapters:
            self._ranks.update({name: part.lora_A.shape[0] for name, part in adapter.parts.items()})
        self.flops = self.tokens = self.batches = 0

    def count(self, batch: Mapping[str, Tensor]) -> None:
        """One more training batch."""
        if self.batches >= MOST_BATCHES:
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
        """`flops_per_token`, and where one process trained `mfu` with what it was measured against."""
        if not self.tokens:
            return {}
        each = self.flops / self.tokens
        found: dict[str, Any] = {"flops_per_token": round(each)}
        if ranks.count() == 1 and tokens_per_second:
            device = next(self.model.parameters()).device
            peak = gemm_peak(device, dtype)
            found["mfu"] = each * tokens_per_second / peak
            found["peak_flops"] = round(peak)
            found["peak_of"] = f"{str(dtype).removeprefix('torch.')} products of matrices, measured"
        return found


def gemm_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs a second of the best of some large products; nothing random is drawn."""
    size = _SIZES.get(device.type, 1024)
    a = torch.full((size, size), 0.5, device=device, dtype=dtype)
    best = float("inf")
    with torch.no_grad():
        for _ in range(_REPEATS):
            _synchronize(device)
            began = time.perf_counter()
            torch.mm(a, a)
            _synchronize(device)
            best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
