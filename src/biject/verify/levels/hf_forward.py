"""Level `hf-forward`: HF computes the same numbers from the source and from the export."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from torch import Tensor, nn

from biject.verify.compare import first_difference, pairs_by_name, with_place
from biject.verify.outputs import compare_outputs, run, without_random
from biject.verify.report import Check
from biject.verify.subject import Subject, inputs_for


def hf_forward(subject: Subject) -> list[Check]:
    """Max abs diff = 0 in every output and every hidden layer, or the first layer that differs."""
    known = subject.family.head_of(subject.named_class) is not None
    class_name = subject.named_class if known else subject.hf_class
    origin, copy = subject.their_source(class_name=class_name), subject.theirs(class_name=class_name)
    before, after = origin.model, copy.model
    missing = (*origin.missing, *copy.missing)
    checks = []
    for case in subject.cases:
        inputs = inputs_for(after, case)
        found = compare_outputs(
            without_random(run(after, inputs, output_hidden_states=True), missing),
            without_random(run(before, inputs_for(before, case), output_hidden_states=True), missing),
            case=case.name,
        )
        checks += with_place(found, functools.partial(_where, after, before, inputs))
    subject.release_source()
    return checks


def _where(after: nn.Module, before: nn.Module, inputs: Mapping[str, Tensor]) -> str:
    return first_difference(after, before, pairs_by_name(after, before), inputs)
