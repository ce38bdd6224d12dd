"""Level `trained`: the model in memory, as training left it, and HF's of the export give the same numbers."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from biject.model import Model
from biject.nn.addresses import align, aligned
from biject.verify.compare import first_difference, hf_names, hf_value, pairs_from_names, with_place
from biject.verify.inputs import Case
from biject.verify.levels.packed import in_layout, real_only
from biject.verify.numbers import same_bits
from biject.verify.outputs import compare_outputs, run, without_random
from biject.verify.report import Check, agreement
from biject.verify.subject import Subject, inputs_for

LABELS = ("labels", "start_positions", "end_positions")


def trained(subject: Subject) -> list[Check]:
    """Every weight, and every output of every probe input: max abs diff = 0.

    Where the export's dtype is another, the model is compared as cast to it.
    """
    model = subject.trained
    if model is None:
        raise ValueError("level trained needs the model in memory")
    loaded = subject.theirs()
    with _as_exported(model, subject.dtype) as ours:
        checks = [_compare_weights(ours, loaded.model)]
        for case in subject.cases:
            inputs = inputs_for(loaded.model, case)
            theirs = without_random(run(loaded.model, inputs, output_hidden_states=True), loaded.missing)
            with in_layout(ours, "padded"):
                mine = run(ours, inputs, output_hidden_states=True)
            found = compare_outputs(mine, theirs, case=case.name) + _packed(
                ours, inputs, theirs, subject, case
            )
            found = [check if check.max_abs_diff == 0 else _failed(check) for check in found]
            checks += with_place(found, functools.partial(_where, ours, loaded.model, inputs))
    return checks


def _packed(
    ours: Model,
    inputs: Mapping[str, Tensor],
    theirs: Mapping[str, tuple[Tensor, ...]],
    subject: Subject,
    case: Case,
) -> list[Check]:
    """The same call in the packed layout, where the batch has padding: outputs at real tokens."""
    mask = inputs.get("attention_mask")
    if mask is None or bool(mask.bool().all()):
        return []
    call = {name: value for name, value in inputs.items() if name not in LABELS}
    with in_layout(ours, "packed"):
        mine = run(ours, call)
    expected = {name: value for name, value in theirs.items() if name in mine}
    real = mask.bool()
    return compare_outputs(
        real_only(mine, real, subject.head),
        real_only(expected, real, subject.head),
        case=f"{case.name}, packed",
    )


class _as_exported:
    """The model on the CPU, in eval mode, the export's dtype and exact kernels; the given one stays.

    With `numerics="fast"` a model has other last bits than HF by its own choice; what is proved here is that
    folder and memory hold the same model.
    """

    def __init__(self, model: Model, dtype: torch.dtype) -> None:
        parameter = next(model.parameters())
        self.model, self.training = model, model.training
        self.numerics = model.planner.numerics
        same = parameter.dtype == dtype and parameter.device.type == "cpu" and aligned(model)
        self.ours = model if same else copy.deepcopy(model).to(device="cpu", dtype=dtype)
        align(self.ours)

    def __enter__(self) -> Model:
        self.ours.planner.numerics = "exact"
        return self.ours.eval()

    def __exit__(self, *_: object) -> None:
        self.model.planner.numerics = self.numerics
        self.model.train(self.training)


def _compare_weights(ours: Model, theirs: nn.Module) -> Check:
    parameters = dict(theirs.named_parameters(remove_duplicate=False))
    names = hf_names(ours, theirs)
    wrong = [
        memory
        for memory, found in names.items()
        if not found
        or not all(_same(ours.get_parameter(memory), hf_value(parameters, name)) for name in found)
    ]
    return Check(name=f"weights ({len(names)} parameters)", passed=not wrong, detail=agreement(wrong))


def _same(mine: Tensor, other: Tensor | None) -> bool:
    return other is not None and same_bits(mine, other)


def _failed(check: Check) -> Check:
    """The gate is 0, whatever bound another level grants a dtype."""
    return Check(**{**vars(check), "passed": False})


def _where(ours: Model, theirs: nn.Module, inputs: Mapping[str, Tensor]) -> str:
    with in_layout(ours, "padded"):
        pairs = pairs_from_names(hf_names(ours, theirs), ours, theirs)
        return first_difference(ours, theirs, pairs, inputs)
