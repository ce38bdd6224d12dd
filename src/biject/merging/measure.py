"""How far a merged model is from the adapter on its base, beside what the adapter itself changes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from biject.adapters.state import without_adapters
from biject.events import progress
from biject.merging.sample import Sample, real
from biject.model import Model

_TOKEN_HEADS = frozenset(("tokcls", "mlm", "rtd", "causal"))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One merged model against the adapter on its base.

    Attributes:
        max_abs: Largest absolute difference of an output.
        rms: Root mean square of the differences.
        effect: The same between the adapter on its base and the base alone: what there is to be kept.
        scale: Root mean square of the outputs.
        kl: Mean divergence of the merged model's distributions from the adapter's, in nats; None where
            outputs are no distributions.
        flips: Rows whose likeliest class or token is another; None likewise.
        rows: How many rows were compared.
        perplexity: Of the texts, adapter and merged; of causal models.
        accuracy: By the sample's labels, adapter and merged.
    """

    max_abs: float
    rms: float
    effect: float
    scale: float
    kl: float | None
    flips: int | None
    rows: int
    perplexity: tuple[float, float] | None = None
    accuracy: tuple[float, float] | None = None

    @property
    def ratio(self) -> float:
        """The share of the adapter's effect by which the merged model misses it; infinite for one of none."""
        return self.rms / self.effect if self.effect else math.inf


@dataclass
class _Sums:
    """Sums over batches."""

    worst: float = 0.0
    square: float = 0.0
    effect: float = 0.0
    scale: float = 0.0
    numbers: int = 0
    rows: int = 0
    kl: float = 0.0
    flips: int = 0
    chances: bool = False
    broken: bool = False
    loss: list[float] = field(default_factory=lambda: [0.0, 0.0])
    tokens: int = 0
    right: list[int] = field(default_factory=lambda: [0, 0])


@torch.no_grad()
def measure(reference: Model, candidates: Mapping[str, Model], sample: Sample) -> dict[str, Measured]:
    """Each candidate against the reference.

    Args:
        reference: The adapter on its base, active, in eval mode.
        candidates: Merged models by name, in eval mode.
        sample: What to compute.
    """
    sums = {name: _Sums() for name in candidates}
    place = 0
    for index, batch in enumerate(sample.batches):
        progress("measure", index, len(sample.batches), unit="batches")
        mask = real(batch)
        expected = _outputs(reference, batch, mask)
        with without_adapters(reference):
            plain = _outputs(reference, batch, mask)
        labels = None
        if sample.labels is not None:
            labels = torch.tensor(sample.labels[place : place + len(mask)])
        place += len(mask)
        chances = _are_chances(reference, expected)
        for name, model in candidates.items():
            _add(sums[name], expected, _outputs(model, batch, mask), plain, chances=chances)
            if reference.head_name == "causal":
                _add_loss(sums[name], reference, model, batch, mask)
            if labels is not None:
                for side, found in enumerate((expected, _outputs(model, batch, mask))):
                    sums[name].right[side] += int((found["logits"].argmax(-1) == labels).sum())
    progress("measure", len(sample.batches), len(sample.batches), unit="batches")
    return {name: _measured(found, sample) for name, found in sums.items()}


def _outputs(model: Model, batch: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """Rows of the head's outputs in float32: (N, classes), (N, D), or (B, L) for starts and ends."""
    device = model.device
    out = model(**{name: value.to(device) for name, value in batch.items() if name != "labels"})
    head, mask = model.head_name, mask.to(device)
    if head == "qa":
        found = {"start_logits": out["start_logits"], "end_logits": out["end_logits"]}
        return {name: value.float().masked_fill(~mask, -math.inf).cpu() for name, value in found.items()}
    if head == "base" and "pixel_values" in batch:
        return {"last_hidden_state": out["last_hidden_state"].flatten(0, 1).float().cpu()}
    if head == "base":
        return {"last_hidden_state": out["last_hidden_state"][mask].float().cpu()}
    logits = out["logits"]
    logits = logits[mask] if head in _TOKEN_HEADS else logits
    return {"logits": (logits.unsqueeze(-1) if logits.dim() == 1 else logits).float().cpu()}


def _are_chances(model: Model, outputs: Mapping[str, Tensor]) -> bool:
    """Whether rows are logits of one class, token or place out of several.

    A single number has no softmax; regressions and labels that are not exclusive are for none.
    """
    alone = model.config.head.problem_type in ("regression", "multi_label_classification")
    return model.head_name != "base" and not alone and any(one.shape[-1] > 1 for one in outputs.values())


def _pairs(*sides: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, ...]]:
    for name in sides[0]:
        yield tuple(side[name] for side in sides)


def _add(
    sums: _Sums,
    expected: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    plain: Mapping[str, Tensor],
    *,
    chances: bool,
) -> None:
    sums.chances |= chances
    for want, have, base in _pairs(expected, found, plain):
        seen = want > -math.inf
        a, b, c = want[seen].double(), have[seen].double(), base[seen].double()
        sums.broken |= not bool(torch.isfinite(a).all() & torch.isfinite(b).all())
        sums.worst = max(sums.worst, float((a - b).abs().max()))
        sums.square += float((a - b).square().sum())
        sums.effect += float((a - c).square().sum())
        sums.scale += float(a.square().sum())
        sums.numbers += a.numel()
        sums.rows += len(want)
        if chances:
            p, q = want.log_softmax(-1), have.log_softmax(-1)
            sums.kl += float(torch.where(p > -math.inf, p.exp() * (p - q), 0.0).double().sum())
            sums.flips += int((want.argmax(-1) != have.argmax(-1)).sum())


def _add_loss(sums: _Sums, reference: Model, model: Model, batch: Mapping[str, Tensor], mask: Tensor) -> None:
    """Of each text's tokens after the first."""
    labels = batch["input_ids"].masked_fill(~mask, -100)
    count = int((labels[:, 1:] != -100).sum())
    if not count:
        return
    device = reference.device
    inputs = {name: value.to(device) for name, value in batch.items() if name != "labels"}
    for side, one in enumerate((reference, model)):
        loss = one(**inputs, labels=labels.to(device)).loss
        sums.loss[side] += float(loss) * count
    sums.tokens += count


def _measured(sums: _Sums, sample: Sample) -> Measured:
    count = max(sums.numbers, 1)
    nan = math.nan if sums.broken else None
    perplexity = tuple(math.exp(min(loss / sums.tokens, 700)) for loss in sums.loss) if sums.tokens else None
    accuracy = tuple(right / sample.num_texts for right in sums.right) if sample.labels is not None else None
    return Measured(
        max_abs=sums.worst if nan is None else nan,
        rms=math.sqrt(sums.square / count) if nan is None else nan,
        effect=math.sqrt(sums.effect / count),
        scale=math.sqrt(sums.scale / count),
        kl=max(sums.kl / max(sums.rows, 1), 0.0) if sums.chances and nan is None else nan,
        flips=sums.flips if sums.chances else None,
        rows=sums.rows,
        perplexity=None if perplexity is None else (perplexity[0], perplexity[1]),
        accuracy=None if accuracy is None else (accuracy[0], accuracy[1]),
    )
