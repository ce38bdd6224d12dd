"""How long a step takes on this machine, measured on a part of the model with random weights.

Two models of the real sizes, with one layer and with two, take a few steps on a batch of the real data; their
difference is a layer. No weight is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from biject.config.model import ModelConfig
from biject.config.quantization import Quantization
from biject.config.recipe import TrainConfig
from biject.nn.batch import Batch, HeadRequest
from biject.nn.kernels import Numerics
from biject.nn.lora import adapt, sizes
from biject.nn.lora_part import LoraPart
from biject.nn.patches import PatchEmbeddings
from biject.nn.quantised import quantised_linear
from biject.nn.transformer import Transformer
from biject.train.loop import autocast
from biject.train.optim import make_optimizer
from biject.train.session import AUTOCAST

MOST_REPEATS = 8
MOST_SECONDS = 5.0
"""After the first steps; at least one more is timed."""
_IDS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of one batch, and of one optimizer step for each trained number."""

    batch: float
    forward: float
    """Of the batch's time, without gradients: evaluation."""
    update_per_number: float


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """What is trained, and what the base is held in; all by modules' names.

    Attributes:
        trained: Whether a module's own parameters are.
        rank: Of the adapter beside it, 0 for none.
        dropout: Of the adapters.
        codes: Modules that are quantised.
        quantization: How.
    """

    trained: Callable[[str], bool]
    rank: Callable[[str], int]
    dropout: float
    codes: Collection[str]
    quantization: Quantization | None


def measure(
    config: ModelConfig,
    inputs: Mapping[str, Tensor],
    train: TrainConfig,
    adapted: Adapted,
    *,
    device: torch.device,
    numerics: Numerics | None,
) -> StepTime:
    """Time a batch on parts of a model.

    Args:
        config: The whole model's.
        inputs: A collated batch of the data.
        train: Precision, optimizer, checkpointing.
        adapted: What is trained.
        device: Where.
        numerics: As the run's.
    """
    steps = len(config.layer_order)
    parts = [
        _Part(_first_layers(config, count), inputs, train, adapted, device=device, numerics=numerics)
        for count in range(1, 1 + min(2, steps))
    ]
    started = time.perf_counter()
    for turn in range(1 + MOST_REPEATS):  # in turns, so that what else the machine does hits both alike
        for part in parts:
            part.run(keep=turn > 0)  # the first takes memory and probes kernels
        if turn and time.perf_counter() - started > MOST_SECONDS:
            break
    first, last = parts[0].best, parts[-1].best
    more = steps - 1
    return StepTime(
        batch=first.batch + more * max(0.0, last.batch - first.batch),
        forward=first.forward + more * max(0.0, last.forward - first.forward),
        update_per_number=last.update_per_number,
    )


def _first_layers(config: ModelConfig, count: int) -> ModelConfig:
    """The model with its first steps alone; a layer that is shared stays shared."""
    order = config.layer_order[:count]
    kept = sorted(set(order))
    return replace(
        config,
        layers=tuple(config.layers[i] for i in kept),
        layer_order=tuple(kept.index(i) for i in order),
    )


class _Part:
    """Some layers with embeddings, head and optimizer, and the times of their steps."""

    def __init__(
        self,
        config: ModelConfig,
        inputs: Mapping[str, Tensor],
        train: TrainConfig,
        adapted: Adapted,
        *,
        device: torch.device,
        numerics: Numerics | None,
    ) -> None:
        self.model = _random(config, device, adapted)
        self.model.planner.numerics = numerics
        self.model.gradient_checkpointing = train.gradient_checkpointing
        moved = {name: value.to(device) for name, value in inputs.items()}
        given: dict[str, Any] = {name: moved[name] for name in _IDS if name in moved}
        self.batch = Batch(**given)
        pictures = moved.pop("pixel_values", None)
        if isinstance(self.model.embed, PatchEmbeddings):
            self.batch = self.model.embed.with_pictures(self.batch, pictures, interpolate=False)
        rest: dict[str, Any] = {name: value for name, value in moved.items() if name not in _IDS}
        self.request, self.train, self.device = HeadRequest(**rest), train, device
        self.optimizer = make_optimizer(self.model, replace(train, layer_decay=1.0))
        self.numbers = sum(one.numel() for one in self.model.parameters() if one.requires_grad)
        self.times: list[tuple[float, float, float]] = []

    @property
    def best(self) -> StepTime:
        """The least of each time: whatever else the machine does can only add to it."""
        batch, forward, update = (min(each) for each in zip(*self.times, strict=True))
        return StepTime(batch=batch, forward=forward, update_per_number=update / max(1, self.numbers))

    def run(self, *, keep: bool) -> None:
        """One step."""
        took, ahead = _once(self.model, self.batch, self.request, self.train, self.device)
        before = time.perf_counter()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        _wait(self.device)
        if keep:
            self.times.append((took, ahead, time.perf_counter() - before))


def _once(
    model: Transformer, batch: Batch, request: HeadRequest, train: TrainConfig, device: torch.device
) -> tuple[float, float]:
    """Seconds of forward and backward pass, and of a forward pass alone."""
    dtype = AUTOCAST[train.precision]
    model.eval()
    _wait(device)
    started = time.perf_counter()
    with torch.no_grad(), autocast(model, dtype):
        model(batch, request)
    _wait(device)
    between = time.perf_counter()
    model.train()
    with autocast(model, dtype):
        out = model(batch, request)
        loss = out.loss if out.loss is not None else out.to_tuple()[0].float().mean()  # a loss of one's own
    loss.backward()
    if train.clip_norm is not None:
        nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], train.clip_norm)
    _wait(device)
    return time.perf_counter() - between, between - started


def _random(config: ModelConfig, device: torch.device, adapted: Adapted) -> Transformer:
    """A model of these sizes with small random values; nobody else's random numbers are drawn."""
    model = Transformer(config).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name.rpartition(".")[0].rpartition(".")[2] and name.endswith("weight"):
                parameter.fill_(1.0)
            else:
                parameter.normal_(0, 0.02, generator=generator)
            parameter.requires_grad_(adapted.trained(name.rpartition(".")[0]))
    model.tie_weights()
    for name, module in list(model.named_modules()):
        if adapted.quantization is not None and name in adapted.codes:
            codes = quantised_linear(adapted.quantization, module)
            codes.quantise(module.get_parameter("weight"), dtype=torch.float32, device=device)
            model.set_submodule(name, codes, strict=True)
    for name, module in list(model.named_modules()):
        if adapted.rank(name):
            inputs, outputs = sizes(module)
            zeros = (
                torch.zeros(*shape, device=device) for shape in _low_rank(inputs, outputs, adapted.rank(name))
            )
            wrapped = adapt(module)
            wrapped.lora["probe"] = LoraPart(*zeros, scaling=1.0, dropout=adapted.dropout)
            wrapped.active = ("probe",)
    return model


def _low_rank(inputs: int, outputs: int, rank: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (rank, inputs), (outputs, rank)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
