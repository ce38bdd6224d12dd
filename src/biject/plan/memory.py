"""The peak memory of a training run by a written-down formula; docs/plan.md has it in words. No torch.

`scripts/check_memory.py` holds it against the peaks of real runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from biject.config.flops import TextBatch
from biject.config.layers import ExpertsConfig, MLPConfig
from biject.config.model import ModelConfig
from biject.config.recipe import OptimizerName
from biject.config.shapes import parameter_shapes
from biject.plan.activations import Kept, activation_bytes, cast_bytes
from biject.plan.cell import Quantization

FLOAT = 4
"""Bytes of a master weight, a gradient, and each of an optimizer's numbers."""
UNUSED = 0.4
"""Of activations, what malloc holds in pieces beside them; it was measured, and gradients fit into it."""
ORACLE_BYTES = 170_000_000
"""What transformers takes once it is imported and has computed something."""
LIBRARY_BYTES = 85_000_000
"""What bitsandbytes takes once it is imported."""
_BLOCK, _NESTED = 64, 256
"""bitsandbytes: weights that share an absmax, and absmaxes that share one where they are quantised again."""

_STATES: Mapping[OptimizerName, int] = {
    "adamw": 8, "adamw_torch": 8, "adamw_torch_fused": 8, "adam": 8, "nadam": 8, "radam": 8, "adagrad": 4,
    "rmsprop": 4, "sgd": 0, "adamw_8bit": 2, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2,
    "paged_adamw_32bit": 8, "lion_8bit": 1, "lion_32bit": 4, "paged_lion_8bit": 1, "paged_lion_32bit": 4,
}  # fmt: skip
"""Bytes that an optimizer keeps for each trained number; Adafactor a row and a column of each matrix."""


class Held(NamedTuple):
    """A parameter in memory."""

    shape: tuple[int, ...]
    trained: bool
    quantized: bool


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a run trains.

    Attributes:
        kept: What is trained, and how it is computed.
        optimizer: Its name.
        momentum: It has one (`sgd`, `rmsprop`).
        quantization: Of the layers' matrices.
        file_item: Bytes of a number in the checkpoint's files.
        double_quant: Their scales are quantised as well.
        checkpoint: States are written on the way; the optimizer's is copied twice for it.
        proof: The model is compared with transformers' at the end, which loads it a second time.
    """

    kept: Kept
    optimizer: OptimizerName = "adamw"
    momentum: bool = False
    quantization: Quantization = "none"
    file_item: float = 4.0
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
    unused: int
    """What the CPU's allocator holds beside activations and cannot use for gradients."""
    mapped: int
    """Pages of the files that were quantised: the system drops them where memory is short."""
    library: int
    """Bitsandbytes."""
    workspace: int
    """What the widest operation needs beside its inputs."""
    checkpoint: int
    proof: int
    """The second model at the end, and the library that loads it."""

    def parts(self) -> dict[str, int]:
        """What the peak is the sum of, by name."""
        largest = max(("workspace", "checkpoint", "proof"), key=lambda name: int(getattr(self, name)))
        names = ("weights", "gradients", "optimizer", "activations", "unused", "mapped", "library", largest)
        return {name: getattr(self, name) for name in names}

    @property
    def peak(self) -> int:
        """The most at one time: what stays, and the largest of what comes and goes.

        Activations count beside gradients: what is freed of them while gradients come is not given back.
        """
        return sum(self.parts().values())


def training_memory(
    config: ModelConfig, batch: TextBatch, setup: Setup, parameters: Sequence[Held] | None = None
) -> Memory:
    """Of a run whose largest batch is `batch`.

    Args:
        config: The model.
        batch: The largest batch.
        setup: How it trains.
        parameters: All of them, an adapter's as well; by config and setup where left out.
    """
    kept = setup.kept
    every = parameters_of(config, kept) if parameters is None else parameters
    trained = [one.shape for one in every if one.trained]
    numbers = sum(map(math.prod, trained))
    weights = sum(_stored(one, setup) for one in every)
    codes = [one for one in every if one.quantized and setup.quantization != "none"]
    optimizer = _optimizer(trained, numbers, setup)
    activations = activation_bytes(config, batch, kept)
    if kept.half:
        activations += cast_bytes(config, batch)
    return Memory(
        weights=math.ceil(weights),
        gradients=FLOAT * numbers,
        optimizer=optimizer,
        activations=activations,
        unused=0 if kept.fused else max(0, math.ceil(UNUSED * activations) - FLOAT * numbers),
        mapped=math.ceil(setup.file_item * sum(math.prod(one.shape) for one in codes)),
        library=LIBRARY_BYTES if codes else 0,
        workspace=_workspace(config, batch, every, setup),
        checkpoint=2 * optimizer if setup.checkpoint else 0,
        proof=ORACLE_BYTES + math.ceil(weights) if setup.proof else 0,
    )


def parameters_of(config: ModelConfig, kept: Kept) -> list[Held]:
    """A model's by its config, a tied output not counted again, and its adapter's.

    Of quantised ones the layers' matrices are taken to be codes; embeddings, norms and head are not.
    """
    found = []
    for name, shape in parameter_shapes(config).items():
        module, _, leaf = name.rpartition(".")
        if config.tied_output and name == "head.decoder.weight":
            continue
        matrix = leaf == "weight" and len(shape) == 2
        codes = matrix and name.startswith("layers.") and module.endswith("proj") and ".experts." not in name
        found.append(Held(shape, trained=kept.trained(module), quantized=codes))
        rank = kept.rank(module) if matrix else 0
        if rank:
            found += [Held((rank, shape[1]), trained=True, quantized=False)]
            found += [Held((shape[0], rank), trained=True, quantized=False)]
    return found


def _stored(one: Held, setup: Setup) -> float:
    """Bytes of a parameter."""
    count = math.prod(one.shape)
    if setup.quantization == "none" or not one.quantized:
        return FLOAT * count
    if setup.quantization == "int8":
        return count + FLOAT * one.shape[0]
    scales = count / _BLOCK
    return count / 2 + (scales * (1 + FLOAT / _NESTED) if setup.double_quant else FLOAT * scales)


def _optimizer(trained: Iterable[tuple[int, ...]], numbers: int, setup: Setup) -> int:
    if setup.optimizer == "adafactor":
        return FLOAT * sum(sum(shape[-2:]) if len(shape) > 1 else math.prod(shape) for shape in trained)
    momentum = FLOAT if setup.momentum and setup.optimizer in ("sgd", "rmsprop") else 0
    return (_STATES[setup.optimizer] + momentum) * numbers


def _widest(mlp: MLPConfig | ExpertsConfig) -> int:
    """Numbers of a row inside; of experts, of all that it goes through."""
    if isinstance(mlp, MLPConfig):
        return mlp.intermediate_size
    return mlp.num_experts_per_tok * max(2 * mlp.intermediate_size, mlp.hidden_size)


def _workspace(config: ModelConfig, batch: TextBatch, parameters: Sequence[Held], setup: Setup) -> int:
    """Gradients of the widest activation on both sides of it; a matrix out of its codes."""
    rows = sum(batch.lengths) if batch.packed else batch.cells
    widest = max((_widest(layer.mlp) for layer in config.layers if hasattr(layer.mlp, "act")), default=0)
    total = 2 * rows * max(widest, config.hidden_size) * FLOAT
    if config.head.reads == "labelled" and batch.labelled is not None:
        total = max(total, 2 * min(batch.labelled * config.vocab_size, 2**25) * FLOAT)
    if setup.quantization != "none":
        total += max((math.prod(one.shape) for one in parameters if one.quantized), default=0) * FLOAT
    return total
