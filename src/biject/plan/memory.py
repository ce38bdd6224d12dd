"""The peak memory of a training run by a written-down formula; docs/plan.md has it in words. No torch.

`scripts/check_memory.py` holds it against the peaks of real runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from biject.config.flops import TextBatch
from biject.config.model import ModelConfig
from biject.config.recipe import OptimizerName
from biject.config.shapes import parameter_shapes
from biject.plan.activations import Kept, activation_bytes, cast_bytes
from biject.plan.cell import Quantization

FLOAT = 4
"""Bytes of a master weight, a gradient, and each of an optimizer's numbers."""
ORACLE_BYTES = 170_000_000
"""What transformers takes once it is imported and has computed something."""
_BLOCK, _NESTED = 64, 256
"""bitsandbytes: weights that share an absmax, and absmaxes that share one where they are quantised again."""

_STATES: Mapping[OptimizerName, int] = {
    "adamw": 2, "adamw_torch": 2, "adamw_torch_fused": 2, "adam": 2, "nadam": 2, "radam": 2, "adagrad": 1,
    "rmsprop": 1, "sgd": 0,
}  # fmt: skip
"""Numbers that an optimizer keeps for each trained one; Adafactor keeps a row and a column of each matrix."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a run trains.

    Attributes:
        kept: What is trained, and how it is computed.
        optimizer: Its name.
        momentum: It has one (`sgd`, `rmsprop`).
        quantization: Of the layers' matrices.
        double_quant: Their scales are quantised as well.
        checkpoint: States are written on the way; the optimizer's is copied twice for it.
        proof: The model is compared with transformers' at the end, which loads it a second time.
    """

    kept: Kept
    optimizer: OptimizerName = "adamw"
    momentum: bool = False
    quantization: Quantization = "none"
    double_quant: bool = True
    checkpoint: bool = False
    proof: bool = False


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    workspace: int
    """What the widest operation needs beside its inputs."""
    checkpoint: int
    proof: int
    """The second model at the end, and the library that loads it."""

    def parts(self) -> dict[str, int]:
        """What the peak is the sum of, by name."""
        largest = max(("workspace", "checkpoint", "proof"), key=lambda name: int(getattr(self, name)))
        names = ("weights", "gradients", "optimizer", "activations", largest)
        return {name: getattr(self, name) for name in names}

    @property
    def peak(self) -> int:
        """The most at one time: what stays, and the largest of what comes and goes.

        Activations count beside gradients: what is freed of them while gradients come is not given back.
        """
        return sum(self.parts().values())


def training_memory(config: ModelConfig, batch: TextBatch, setup: Setup) -> Memory:
    """Of a run whose largest batch is `batch`; parts of a type that is not Biject's own count nothing."""
    kept, shapes = setup.kept, _distinct(config)
    adapters = _adapter_numbers(shapes, kept)
    trained = [shape for name, shape in shapes.items() if kept.trained(_module(name))]
    numbers = sum(map(math.prod, trained)) + adapters
    weights = sum(_stored(name, shape, setup) for name, shape in shapes.items()) + FLOAT * adapters
    optimizer = _optimizer(trained, numbers, setup)
    activations = activation_bytes(config, batch, kept)
    if kept.half:
        activations += cast_bytes(config, batch)
    return Memory(
        weights=math.ceil(weights),
        gradients=FLOAT * numbers,
        optimizer=optimizer,
        activations=activations,
        workspace=_workspace(config, batch, shapes, setup),
        checkpoint=2 * optimizer if setup.checkpoint else 0,
        proof=ORACLE_BYTES + FLOAT * sum(map(math.prod, shapes.values())) if setup.proof else 0,
    )


def _distinct(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters, a tied output not counted again."""
    shapes = parameter_shapes(config)
    if config.tied_output:
        shapes.pop("head.decoder.weight", None)
    return shapes


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def is_quantized(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a parameter is one of the layers' matrices; embeddings, norms and the head stay as they are."""
    return name.startswith("layers.") and name.endswith("proj.weight") and len(shape) == 2


def _stored(name: str, shape: tuple[int, ...], setup: Setup) -> float:
    """Bytes of a parameter."""
    count = math.prod(shape)
    if setup.quantization == "none" or not is_quantized(name, shape):
        return FLOAT * count
    if setup.quantization == "int8":
        return count + FLOAT * shape[0]
    scales = count / _BLOCK
    return count / 2 + (scales * (1 + FLOAT / _NESTED) if setup.double_quant else FLOAT * scales)


def _adapter_numbers(shapes: Mapping[str, tuple[int, ...]], kept: Kept) -> int:
    matrices = (
        (kept.rank(_module(name)), shape) for name, shape in shapes.items() if name.endswith(".weight")
    )
    return sum(rank * (shape[0] + shape[1]) for rank, shape in matrices if rank and len(shape) == 2)


def _optimizer(trained: Iterable[tuple[int, ...]], numbers: int, setup: Setup) -> int:
    if setup.optimizer == "adafactor":
        return FLOAT * sum(sum(shape[-2:]) if len(shape) > 1 else math.prod(shape) for shape in trained)
    states = _STATES[setup.optimizer] + (setup.momentum and setup.optimizer in ("sgd", "rmsprop"))
    return FLOAT * states * numbers


def _workspace(
    config: ModelConfig, batch: TextBatch, shapes: Mapping[str, tuple[int, ...]], setup: Setup
) -> int:
    """Gradients of the widest activation on both sides of it; a matrix out of its codes."""
    rows = sum(batch.lengths) if batch.packed else batch.cells
    widest = max(
        (layer.mlp.intermediate_size for layer in config.layers if hasattr(layer.mlp, "act")), default=0
    )
    total = 2 * rows * max(widest, config.hidden_size) * FLOAT
    if config.head.reads == "labelled" and batch.labelled is not None:
        total = max(total, 2 * min(batch.labelled * config.vocab_size, 2**25) * FLOAT)
    if setup.quantization != "none":
        matrices = [math.prod(shape) for name, shape in shapes.items() if is_quantized(name, shape)]
        total += max(matrices, default=0) * setup.kept.item
    return total
