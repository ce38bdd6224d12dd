"""Level `trained`: the model in memory, as training left it, and HF's of the export give the same numbers."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from biject.model import Model
from biject.verify.compare import first_difference, hf_parameter, pairs_from_bindings
from biject.verify.levels.names import some
from biject.verify.numbers import same_bits
from biject.verify.outputs import compare_outputs, run, settled
from biject.verify.report import Check
from biject.verify.subject import Subject, inputs_for


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
            theirs = settled(run(loaded.model, inputs, output_hidden_states=True), loaded.missing)
            found = compare_outputs(run(ours, inputs, output_hidden_states=True), theirs, case=case.name)
            found = [check if check.max_abs_diff == 0 else _failed(check) for check in found]
            if not all(check.passed for check in found):
                bindings = [(b.memory, b.disk) for b in _bindings(ours)]
                pairs = pairs_from_bindings(bindings, ours, loaded.model, subject.family.prefix)
                where = first_difference(ours, loaded.model, pairs, functools.partial(_call, inputs))
                found = [check if check.passed else check.at(where) for check in found]
            checks += found
    return checks


class _as_exported:
    """The model on the CPU, in eval mode and the export's dtype; what was given stays as it was."""

    def __init__(self, model: Model, dtype: torch.dtype) -> None:
        parameter = next(model.parameters())
        self.model, self.training = model, model.training
        same = parameter.dtype == dtype and parameter.device.type == "cpu"
        self.ours = model if same else copy.deepcopy(model).to(device="cpu", dtype=dtype)

    def __enter__(self) -> Model:
        return self.ours.eval()

    def __exit__(self, *_: object) -> None:
        self.model.train(self.training)


def _bindings(model: Model) -> list[Any]:
    return [*model.provenance.plan.bindings, *model.provenance.plan.fresh]


def _compare_weights(ours: Model, theirs: nn.Module) -> Check:
    parameters = dict(theirs.named_parameters(remove_duplicate=False))
    wrong = []
    for binding in _bindings(ours):
        mine = ours.get_parameter(binding.memory)
        names = [hf_parameter(disk, parameters, ours.family.prefix) for disk in binding.disk]
        found = [parameters[name] for name in names if name is not None]
        if not found or not all(same_bits(mine, other) for other in found):
            wrong.append(binding.memory)
    detail = f"differ: {some(wrong)}" if wrong else "bit-exact (max abs diff = 0)"
    return Check(name=f"weights ({len(_bindings(ours))} parameters)", passed=not wrong, detail=detail)


def _failed(check: Check) -> Check:
    """The gate is 0, whatever bound another level grants a dtype."""
    return Check(**{**vars(check), "passed": False})


def _call(inputs: Mapping[str, Tensor], model: nn.Module) -> Any:
    return model(**inputs)
