"""Level `forward`: Biject and HF compute the same numbers from the export."""

from __future__ import annotations

import torch

from biject.verify.compare import first_difference, hf_names, pairs_from_names, with_place
from biject.verify.hf import HFModel, eager
from biject.verify.inputs import WITHOUT_LOSS, Case, training_case
from biject.verify.levels.declared import declared
from biject.verify.levels.packed import packed_forward
from biject.verify.outputs import compare_outputs, run, without_random
from biject.verify.report import Check
from biject.verify.subject import Subject, inputs_for


def forward(subject: Subject) -> list[Check]:
    """Bits in every output, hidden layer, loss and attention map; and modules compute what they declare."""
    checks = []
    theirs = subject.theirs()
    cases = list(subject.cases)
    if subject.head not in WITHOUT_LOSS:
        labelled = training_case(subject.config, subject.head)
        cases.append(Case(name="labels", inputs=labelled.inputs))
    for case in cases:
        checks += compare(subject, theirs, case, output_hidden_states=True)
    with eager(theirs):  # sdpa gives HF no attention maps
        padded = next(case for case in cases if case.name == "right-padded")
        named = without_nan(subject, theirs, Case(name="attentions", inputs=padded.inputs))
        checks += compare(subject, theirs, named, output_hidden_states=True, output_attentions=True)
    return checks + packed_forward(subject, theirs) + declared(subject)


def without_nan(subject: Subject, theirs: HFModel, case: Case) -> Case:
    """The case, or the same without padding where HF's own written-out attention makes NaN of padding.

    In float64 what hides a key is infinite to a softmax in float32, and so is a sum of two masks of a window:
    rows that may see nothing are NaN.
    """
    outputs = run(theirs.model, inputs_for(theirs.model, case), output_hidden_states=True)
    if not any(bool(tensor.isnan().any()) for tensors in outputs.values() for tensor in tensors):
        return case
    full = {"attention_mask": torch.ones_like(case.inputs["attention_mask"])}
    return Case(name=f"{case.name}, without padding, which HF makes NaN", inputs={**case.inputs, **full})


def compare(subject: Subject, theirs: HFModel, case: Case, **flags: bool) -> list[Check]:
    """Run one case on both sides; where they differ, name the place."""
    ours = subject.ours
    inputs = inputs_for(theirs.model, case)
    expected = without_random(run(theirs.model, inputs, **flags), theirs.missing)
    found = compare_outputs(run(ours, inputs, **flags), expected, case=case.name)
    pairs = pairs_from_names(hf_names(ours, theirs.model), ours, theirs.model)
    return with_place(found, lambda: first_difference(ours, theirs.model, pairs, inputs, **flags))
