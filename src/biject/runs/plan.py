"""`plan_recipe`: whether a run is allowed, how long it takes and whether it fits. No weight is read."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from biject.config.flops import TextBatch, forward_flops, training_flops
from biject.config.model import ModelConfig
from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.data.blocks import PackedDataset
from biject.data.columns import ColumnsDataset
from biject.data.pairs import PairDataset, single_texts
from biject.data.rerank import without_truth
from biject.environment import prepare as prepare_environment
from biject.model import Model
from biject.nn.planner import draws_random_numbers
from biject.plan.activations import Kept, activation_bytes
from biject.plan.cell import Quantization
from biject.plan.contract import decide
from biject.plan.memory import Memory, Setup, training_memory
from biject.runs.cell import cell_of, device_name
from biject.runs.devices import Devices, measure_devices
from biject.runs.machine import available_bytes, resident_bytes
from biject.runs.outline import Outline
from biject.runs.picture_rows import picture_rows
from biject.runs.prepare import Material, read_material
from biject.runs.probe import Adapted, StepTime, measure
from biject.runs.samples import Part
from biject.tasks.common import usable_device
from biject.train import ranks
from biject.train.batches import Sampler

_READ = 256
"""Samples whose labels are counted, to know how many tokens of the data have one."""
FIRST_STEP_BYTES = 110_000_000
"""Code and buffers of torch's kernels, which come into memory with a process's first step."""
_GRID = 2**31
_OTHER_BACKEND = (
    "`backend` is hf: memory and time are known of Biject's own classes alone. `biject finetune` trains it."
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is known of a run beforehand; all but `allowed` and `reasons` is None where it is refused.

    Attributes:
        allowed: The contract has the cell.
        reasons: Why not.
        steps: Optimizer steps.
        padded_over_real: Tokens of HF's grids, padding too, over those of the texts, in the first epoch.
        truncated_rows: Texts that are cut at the limit.
        peak_bytes: Memory of the process on the CPU, of the device elsewhere.
        seconds: Of training and evaluation, from a short measurement; None where that does not fit.
        fits: Whether the peak is within what the device has free now; None where the system does not say.
    """

    allowed: bool
    reasons: tuple[str, ...]
    steps: int | None = None
    padded_over_real: float | None = None
    truncated_rows: int | None = None
    peak_bytes: int | None = None
    seconds: float | None = None
    fits: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "reasons": list(self.reasons)}


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A plan, and the parts of its peak."""

    plan: Plan
    memory: Memory | None = None
    process_bytes: int = 0
    """What Python, torch, the tokenizer and the data take."""
    available: int | None = None
    devices: Devices | None = None


def plan_recipe(
    recipe: FinetuneRecipe,
    *,
    quantization: Quantization | None = None,
    proof: bool = True,
    devices: bool = False,
) -> Planned:
    """Plan a run; of the checkpoint only config.json, the tokenizer and the headers are read.

    Args:
        recipe: The run.
        quantization: Of the base, where another than the recipe's is asked about.
        proof: The exported model is verified at the end.
        devices: Measure a step on every device of this machine.

    Raises:
        BijectError: The recipe cannot be read at all: no such folder, data that cannot be used.
    """
    if recipe.backend != "biject":
        return Planned(plan=Plan(allowed=False, reasons=(_OTHER_BACKEND,)))
    prepare_environment()
    ranks.start()
    cell = cell_of(recipe, quantization=quantization)
    verdict = decide(cell)
    if not verdict.allowed:
        return Planned(plan=Plan(allowed=False, reasons=verdict.reasons))
    device = usable_device(device_name(recipe), place=ranks.own_device)
    material = read_material(recipe)
    outline = Outline(recipe, material)
    config = outline.config
    epochs = _Epochs(recipe, material, multiple=_multiple(recipe, outline.model, device))
    kept = outline.kept(recipe, device)
    setup = Setup(
        kept=kept,
        optimizer=recipe.train.optimizer,
        momentum=recipe.train.momentum > 0,
        checkpoint=bool(material.samples.evaluation or recipe.train.checkpoint_every),
        quantization=cell.quantization,
        double_quant=recipe.double_quant,
        file_item=_file_item(material),
        proof=proof,
    )
    largest = max(epochs.candidates(), key=lambda batch: activation_bytes(config, batch, kept))
    memory = training_memory(config, largest, setup, outline.parameters())
    process = resident_bytes() + FIRST_STEP_BYTES if device.type == "cpu" else 0
    free = available_bytes(device)
    room = None if free is None else free + process
    peak = process + memory.peak
    steps = _Steps(recipe, outline, material, epochs, kept, memory)
    return Planned(
        plan=Plan(
            allowed=True,
            reasons=(),
            steps=epochs.steps,
            padded_over_real=round(epochs.padded_over_real, 4),
            truncated_rows=material.samples.num_cut,
            peak_bytes=peak,
            seconds=steps.seconds(device, room),
            fits=None if room is None else peak - memory.mapped <= room,
        ),
        memory=memory,
        process_bytes=process,
        available=room,
        devices=steps.devices() if devices else None,
    )


def _file_item(material: Material) -> float:
    """Bytes of a number in the checkpoint's files."""
    infos = material.source.tensors.values()
    return sum(info.nbytes for info in infos) / max(1, sum(info.numel for info in infos))


class _Epochs:
    """The batches of a run by the lengths of their texts."""

    def __init__(self, recipe: FinetuneRecipe, material: Material, *, multiple: int) -> None:
        self.recipe, self.material = recipe, material
        train, self.train_config = material.samples.train, recipe.train
        self.rows = picture_rows(recipe, material) if recipe.task == "imgcls" else None
        self.train = train
        self.sampler = Sampler(
            num_samples=len(train),
            batch_size=recipe.train.batch_size,
            accumulate=recipe.train.accumulate,
            num_ranks=ranks.count(),
            seed=recipe.train.seed,
            lengths=[1 if self.rows else sum(self.texts(i)) for i in range(len(train))],
            max_tokens=recipe.train.max_tokens,
        )
        self.share = self._labelled_share()
        self.multiple = multiple
        self.batches = list(self._batches(0))

    def texts(self, index: int) -> list[int]:
        """Tokens of a sample's texts: one, or the documents of a block; rows of a picture."""
        if self.rows is not None:
            return [self.rows]
        data: Any = self.train
        if isinstance(data, Part):
            data, index = data.whole, data.indices[index]
        if isinstance(data, PackedDataset):
            return [data.pieces.lengths[i] for i in data.groups[index]]
        if isinstance(data, PairDataset):
            return list(data.both[index])
        if isinstance(data, ColumnsDataset):
            return data.text_lengths[index]
        return [data.lengths[index]]

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        config: TrainConfig = self.train_config
        if config.max_steps is not None:
            return config.max_steps
        return sum(len(self.sampler.steps(epoch)) for epoch in range(config.epochs))

    @property
    def padded_over_real(self) -> float:
        """Of the first epoch."""
        return sum(batch.cells for batch in self.batches) / sum(sum(batch.lengths) for batch in self.batches)

    def candidates(self) -> Iterator[TextBatch]:
        """Batches one of which needs most memory: of most tokens, of the largest grid, of most pairs."""
        sizes: tuple[Callable[[TextBatch], int], ...] = (
            lambda batch: sum(batch.lengths),
            lambda batch: batch.cells,
            lambda batch: sum(length * length for length in batch.lengths),
        )
        for size in sizes:
            yield max(self.batches, key=size)

    def typical(self) -> TextBatch:
        """The batch in the middle, by its tokens."""
        return sorted(self.batches, key=lambda batch: sum(batch.lengths))[len(self.batches) // 2]

    def typical_samples(self) -> list[int]:
        """The samples of `typical`."""
        batch = self.typical()
        return next(samples for samples in self._indices(0) if self._batch(samples).lengths == batch.lengths)

    def _indices(self, epoch: int) -> Iterator[list[int]]:
        for shares in self.sampler.steps(epoch):
            for share in shares:
                yield from (batch for batch in share if batch)

    def _batches(self, epoch: int) -> Iterator[TextBatch]:
        return (self._batch(samples) for samples in self._indices(epoch))

    def _batch(self, samples: Sequence[int]) -> TextBatch:
        lengths = tuple(length for sample in samples for length in self.texts(sample))
        labelled = None if self.share is None else max(1, round(self.share * sum(lengths)))
        packed = self.rows is None
        return TextBatch(lengths=lengths, labelled=labelled, multiple=self.multiple, packed=packed)

    def _labelled_share(self) -> float | None:
        """Of the tokens of a language model's data, from some of them."""
        if isinstance(self.train, PairDataset):
            return self.train.learned_share if self.recipe.task == "dpo" else None
        if self.recipe.task not in ("mlm", "causal"):
            return None
        some = [self.train[i] for i in range(0, len(self.train), max(1, len(self.train) // _READ))]
        labels = [label for sample in some for label in sample["labels"]]
        return float(sum(label >= 0 for label in labels)) / max(1, len(labels))


def _multiple(recipe: FinetuneRecipe, model: Model, device: torch.device) -> int:
    """Columns that attention fills texts up to: where bits are kept, at worst the whole grid."""
    exact = (recipe.numerics or ("exact" if device.type == "cpu" else "fast")) == "exact"
    return _GRID if exact and not draws_random_numbers(model) else 16


@dataclass(frozen=True)
class _Steps:
    """A run's steps, timed on a device: one measured batch, scaled by FLOPs to the others."""

    recipe: FinetuneRecipe
    outline: Outline
    material: Material
    epochs: _Epochs
    kept: Kept
    memory: Memory

    def seconds(self, device: torch.device, room: int | None) -> float | None:
        """Of training and evaluation; None where not even the optimizer's state fits."""
        if not self._fits(room):
            return None
        recipe, epochs, config = self.recipe, self.epochs, self.outline.config
        found = self._measured(device)
        seconds = epochs.steps * self._step(found)
        seconds += _evaluations(recipe, self.material, epochs, config, found.forward)
        return round(seconds + _reference(recipe, epochs, config, found.forward), 3)

    def devices(self) -> Devices:
        """A step on every device of this machine."""

        def step(device: torch.device) -> float | None:
            return self._step(self._measured(device)) if self._fits(available_bytes(device)) else None

        tokens = sum(sum(batch.lengths) for batch in self.epochs.batches)
        steps = max(1, len(self.epochs.sampler.steps(0)))
        return measure_devices(step, tokens=tokens / steps, exchange_bytes=self.memory.gradients)

    def _fits(self, room: int | None) -> bool:
        memory = self.memory
        return room is None or memory.weights + memory.gradients + memory.optimizer <= room

    def _measured(self, device: torch.device) -> StepTime:
        recipe, kept, config = self.recipe, self.kept, self.outline.config
        samples = [self.epochs.train[i] for i in self.epochs.typical_samples()]
        texts = single_texts(samples, 2 * len(samples))
        plain = without_truth(texts, len(texts)) if recipe.task == "rerank" else list(texts)
        inputs = self.material.collator(recipe)(plain)
        if recipe.task in (
            "reward",
            "rerank",
        ):  # its loss costs nothing; any has the gradients that cost
            inputs["labels"] = torch.zeros(len(inputs["input_ids"]))
        adapted = Adapted(
            trained=kept.trained, rank=kept.rank, dropout=self.outline.adapter_dropout(recipe),
            codes=self.outline.codes, quantization=self.outline.quantization,
        )  # fmt: skip
        return measure(config, inputs, recipe.train, adapted, device=device, numerics=recipe.numerics)

    def _step(self, found: StepTime) -> float:
        epochs, kept, config = self.epochs, self.kept, self.outline.config
        own = training_flops(config, epochs.typical(), trained=kept.trained, rank=kept.rank)
        mean = statistics.fmean(
            training_flops(config, each, trained=kept.trained, rank=kept.rank) for each in epochs.batches
        )
        per_step = len(epochs.batches) / max(1, len(epochs.sampler.steps(0)))
        return found.batch * mean / own * per_step + found.update_per_number * self.memory.gradients / 4


def _reference(recipe: FinetuneRecipe, epochs: _Epochs, config: ModelConfig, seconds: float) -> float:
    """Of the reference's forward passes (dpo): over the data once, or in every step."""
    if recipe.task != "dpo":
        return 0.0
    before = recipe.preference.precompute_ref_log_probs
    before = recipe.method == "full" if before is None else before
    per_step = len(epochs.batches) / max(1, len(epochs.sampler.steps(0)))
    batches = len(epochs.batches) if before else epochs.steps * per_step
    return batches * seconds * _scale(epochs, config)


def _scale(epochs: _Epochs, config: ModelConfig) -> float:
    """The mean batch's forward pass over that of the typical one."""
    every = statistics.fmean(forward_flops(config, each) for each in epochs.batches)
    return every / forward_flops(config, epochs.typical())


def _evaluations(
    recipe: FinetuneRecipe, material: Material, epochs: _Epochs, config: ModelConfig, seconds: float
) -> float:
    """All evaluations; samples to evaluate are taken to be like those to train."""
    samples = material.samples.evaluation
    if not samples:
        return 0.0
    every, steps = recipe.train.evaluate_every, epochs.steps
    times = -(-steps // every) if every else max(1, -(-steps // len(epochs.sampler.steps(0))))
    batches = -(-len(samples) // recipe.train.batch_size)
    return times * batches * seconds * _scale(epochs, config)
