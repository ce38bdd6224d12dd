"""Levels `stored` and `adapter`: an adapter's files against the model in memory, and PEFT's against both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from biject.adapters.file import changed_files
from biject.adapters.keys import tensors_of
from biject.adapters.names import module_names
from biject.adapters.state import adapters_of
from biject.checkpoint.adapter import Stored, newest_name
from biject.checkpoint.source import Source
from biject.model import Model
from biject.verify.compare import Pair, first_difference, with_place
from biject.verify.inputs import Case, mixed_cases, probe_cases
from biject.verify.levels.packed import in_layout, real_only
from biject.verify.numbers import same_bits
from biject.verify.outputs import compare_outputs, run, without_random
from biject.verify.peft import PeftModel, load_peft
from biject.verify.report import Check, agreement, listed

LABELS = ("labels", "start_positions", "end_positions")


@dataclass(kw_only=True)
class AdapterSubject:
    """What is verified.

    Attributes:
        stored: The folder.
        ours: The model with the adapter, on the CPU, in eval mode, exact.
        base: The folder of the base that PEFT is given.
        cases: Calls to compare besides the built-in ones.
        max_length: Cap on the longest built-in text.
    """

    stored: Stored
    ours: Model
    base: Source
    cases: list[Case] = field(default_factory=list)
    max_length: int = 512


def stored(subject: AdapterSubject) -> list[Check]:
    """Names, bytes and settings of the files are those of the model; what Biject recorded agrees."""
    adapter = adapters_of(subject.ours).adapters[adapters_of(subject.ours).active[0]]
    held = {newest_name(name): value for name, value in tensors_of(subject.ours, adapter).items()}
    found = subject.stored.tensors()
    missing, strange = sorted(set(held) - set(found)), sorted(set(found) - set(held))
    detail = "; ".join(
        f"{word}: {listed(names)}" for word, names in (("missing", missing), ("unknown", strange)) if names
    )
    checks = [
        Check(name=f"names ({len(found)} tensors)", passed=not detail, detail=detail or "equal"),
        _tensors("tensors of the model", held, found),
        _finite(found),
    ]
    ours = {**adapter.config.to_peft(), "target_modules": None, "modules_to_save": None}
    theirs = {**subject.stored.config.to_peft(), "target_modules": None, "modules_to_save": None}
    wrong = [f"{key}: {theirs[key]} in the file, {ours[key]} in the model" for key in ours
             if _plain(ours[key]) != _plain(theirs[key])]  # fmt: skip
    checks.append(Check(name="settings", passed=not wrong, detail="; ".join(wrong) or "equal"))
    return checks + _recorded(subject.stored)


def _plain(value: object) -> object:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _recorded(stored: Stored) -> list[Check]:
    """Whether the other two files are what biject.json says of them."""
    if "tensors_sha256" not in stored.record:
        return []
    found = changed_files(stored)
    detail = f"changed since they were written: {', '.join(found)}" if found else "as they were written"
    return [Check(name="digests of the files", passed=not found, detail=detail)]


def adapter(subject: AdapterSubject) -> list[Check]:
    """PEFT on Hugging Face's base: nothing missing or unexpected, the same tensors, the same outputs."""
    theirs = load_peft(subject.stored, subject.base, subject.ours)
    checks = [
        Check(name=name, passed=not found, detail=listed(found) or "none")
        for name, found in (("missing", theirs.missing), ("unexpected", theirs.unexpected))
    ]
    checks.append(_tensors("PEFT's tensors", theirs.tensors, subject.stored.tensors()))
    for case in (*probe_cases(subject.base.config, max_length=subject.max_length), *subject.cases):
        checks += _compare(subject, theirs, case)
    for case in mixed_cases(subject.base.config, max_length=subject.max_length):
        checks += _packed(subject, theirs, case)
    return checks


def _compare(subject: AdapterSubject, theirs: PeftModel, case: Case) -> list[Check]:
    """One call in the padded layout; where its batch has padding, in the packed one, too."""
    inputs = {name: value for name, value in _inputs(subject, case).items() if name not in LABELS}
    with in_layout(subject.ours, "padded"):
        mine = run(subject.ours, inputs, output_hidden_states=True)
    other = without_random(run(theirs.inner, inputs, output_hidden_states=True), theirs.random)
    mine = {name: value for name, value in mine.items() if name in other}
    checks = compare_outputs(mine, other, case=case.name)
    checks = with_place(checks, lambda: _where(subject.ours, theirs, inputs))
    mask = inputs.get("attention_mask")
    packs = mask is not None and not bool(mask.bool().all())
    return checks + (_packed(subject, theirs, case) if packs else [])


def _packed(subject: AdapterSubject, theirs: PeftModel, case: Case) -> list[Check]:
    """Outputs at real tokens of a batch of unequal texts."""
    inputs = {name: value for name, value in _inputs(subject, case).items() if name not in LABELS}
    mask = inputs["attention_mask"].bool()
    with in_layout(subject.ours, "packed"):
        mine = run(subject.ours, inputs)
    other = without_random(run(theirs.inner, inputs), theirs.random)
    mine = {name: value for name, value in mine.items() if name in other}
    head = subject.ours.head_name
    return compare_outputs(
        real_only(mine, mask, head), real_only(other, mask, head), case=f"{case.name}, packed"
    )


def _where(ours: Model, theirs: PeftModel, inputs: Mapping[str, Tensor]) -> str:
    known = {name for name, _ in theirs.inner.named_modules()}
    pairs = [Pair(memory, name) for name, memory in module_names(ours).items() if name in known]
    with in_layout(ours, "padded"):
        return first_difference(ours, theirs.inner, pairs, inputs)


def _inputs(subject: AdapterSubject, case: Case) -> dict[str, Tensor]:
    dtype = subject.ours.dtype
    return {
        name: value.cpu().to(dtype) if value.is_floating_point() else value.cpu()
        for name, value in case.inputs.items()
    }


def _tensors(name: str, held: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Check:
    both = [key for key in held if key in found]
    wrong = [key for key in both if not same_bits(held[key].detach().cpu(), found[key])]
    return Check(name=f"{name} ({len(both)})", passed=not wrong, detail=agreement(wrong))


def _finite(found: Mapping[str, Tensor]) -> Check:
    wrong = [name for name, value in found.items() if not torch.isfinite(value).all()]
    detail = f"NaN or infinite: {listed(wrong)}" if wrong else "all"
    return Check(name="finite numbers", passed=not wrong, detail=detail)


@contextmanager
def on_cpu(model: Model) -> Iterator[Model]:
    """The model on the CPU, in eval mode and with exact kernels for a while; elsewhere a copy."""
    import copy

    training, numerics = model.training, model.planner.numerics
    here = all(p.device.type == "cpu" for p in model.parameters())
    ours = model if here else copy.deepcopy(model).to("cpu")
    ours.planner.numerics = "exact"
    try:
        yield ours.eval()
    finally:
        model.planner.numerics = numerics
        model.train(training)
