"""Level `gradients`: one backward on both sides gives every parameter the same gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from biject.verify.compare import hf_names, hf_parts, hf_value
from biject.verify.hf import HFModel
from biject.verify.inputs import training_case
from biject.verify.levels.packed import in_layout, real_only
from biject.verify.numbers import distance
from biject.verify.outputs import flatten, without_random
from biject.verify.report import Check, agreement
from biject.verify.subject import Subject, inputs_for

Gradients = dict[str, Tensor | None]
PACKED_BOUND = 1e-5
"""Relative norm of a packed gradient's difference in float32: sums run in another order."""
PACKED_STEPS = 8
"""The same elsewhere, in epsilons of the dtype: at most 2.6 were seen (5 cells × 4 batches × 4 dtypes)."""
_SEED = 20


def gradients(subject: Subject) -> list[Check]:
    """Bit-equal gradients without dropout, and with dropout from the same seed."""
    loaded = subject.theirs()
    theirs, missing = loaded.model, loaded.missing
    inputs = inputs_for(theirs, training_case(subject.config, subject.head))
    checks = []
    for case, training in (("dropout off", False), ("dropout on, same seed", True)):
        our_loss, ours = backward(subject.ours, inputs, training=training)
        their_loss, other = backward(theirs, inputs, training=training, missing=missing)
        found = distance(our_loss, their_loss)
        passed = found.within(their_loss.dtype)
        words = found.words(their_loss.dtype)
        checks.append(Check(name="loss", passed=passed, detail=words, case=case, max_abs_diff=found.max_abs))
        checks.append(compare_gradients(subject, theirs, ours, other, case=case))
    return [*checks, *([_packed(subject, loaded, inputs)] if "attention_mask" in inputs else [])]


def backward(
    model: nn.Module,
    inputs: dict[str, Tensor],
    *,
    training: bool,
    missing: Sequence[str] = (),
    real: Tensor | None = None,
) -> tuple[Tensor, Gradients]:
    """One forward and backward from a fixed seed; the model is left as it was, without gradients.

    `real` (B, L): outputs of tokens count where it is True; all where None.
    """
    was_training = model.training
    model.train(training)
    model.zero_grad(set_to_none=True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            loss = loss_of(without_random(flatten(model(**inputs)), missing), real)
            loss.backward()  # type: ignore[no-untyped-call]
        found = {name: parameter.grad for name, parameter in model.named_parameters(remove_duplicate=False)}
    finally:
        model.zero_grad(set_to_none=True)
        model.train(was_training)
    return loss.detach(), found


def loss_of(outputs: Mapping[str, tuple[Tensor, ...]], real: Tensor | None = None) -> Tensor:
    """The model's own loss, else (no head) a fixed weighted sum of everything it gives."""
    if "loss" in outputs:
        return outputs["loss"][0]
    if real is not None:
        outputs = real_only(outputs, real, "base")
    draw = torch.Generator().manual_seed(_SEED)
    parts = []
    for name in sorted(outputs):
        for tensor in outputs[name]:
            weights = torch.randn(tensor.shape, generator=draw).to(tensor.dtype)
            parts.append((tensor * weights).sum())
    return torch.stack(parts).sum()


def _packed(subject: Subject, theirs: HFModel, inputs: dict[str, Tensor]) -> Check:
    """One backward in the packed layout without dropout, against HF's padded one."""
    real = inputs["attention_mask"].bool()
    _, other = backward(theirs.model, inputs, training=False, missing=theirs.missing, real=real)
    with in_layout(subject.ours, "packed"):
        _, ours = backward(subject.ours, inputs, training=False, real=real)
    distance, worst = relative_distance(subject, theirs, ours, other)
    float32 = subject.dtype == torch.float32
    bound = PACKED_BOUND if float32 else PACKED_STEPS * torch.finfo(subject.dtype).eps
    return Check(
        name="gradients",
        passed=distance <= bound,
        detail=f"relative norm of the difference {distance:.2g}, bound {bound:.2g} (largest: {worst})",
        case="packed, dropout off",
    )


def relative_distance(
    subject: Subject, theirs: HFModel, ours: Gradients, other: Gradients
) -> tuple[float, str]:
    """‖ours - HF's‖ / ‖HF's‖ over all parameters, and the parameter that differs most."""
    difference, norm, worst = 0.0, 0.0, (0.0, "none")
    for memory, names in hf_names(subject.ours, theirs.model).items():
        mine, their = ours.get(memory), hf_value(other, names[0])
        if mine is None or their is None:
            if mine is not their:
                return float("inf"), memory
            continue
        own = float((mine.double() - their.double()).norm())
        difference, norm = difference + own**2, norm + float(their.double().norm()) ** 2
        worst = max(worst, (own, memory))
    return (difference / norm) ** 0.5 if norm else float("inf"), worst[1]


def compare_gradients(
    subject: Subject, theirs: nn.Module, ours: Gradients, other: Gradients, *, case: str
) -> Check:
    """Every parameter's gradient, bit for bit where the gate of its dtype asks for it."""
    parameters = dict(theirs.named_parameters(remove_duplicate=False))
    seen: set[int] = set()
    wrong, worst, count = [], 0.0, 0
    for memory, names in hf_names(subject.ours, theirs).items():
        if not names:
            wrong.append(f"{memory} (HF has none)")
            continue
        seen.update(id(parameters[one]) for one in hf_parts(names[0]))
        count += 1
        difference = _difference(ours.get(memory), hf_value(other, names[0]))
        if difference is not None:
            worst = max(worst, difference)
            wrong.append(f"{memory} (max abs diff = {difference:.3g})")
    missing = set(subject.theirs().missing)  # a pooler that the file lacks: random in HF, left out here
    alone = [name for name, value in parameters.items() if id(value) not in seen and name not in missing]
    wrong += [f"{name} (only HF computes with it)" for name in alone if other[name] is not None]
    passed = not wrong and count > 0
    name, detail = f"gradients ({count} parameters)", agreement(wrong)
    return Check(name=name, passed=passed, detail=detail, case=case, max_abs_diff=worst)


def _difference(mine: Tensor | None, other: Tensor | None) -> float | None:
    """None where both are the same, gate included; a gradient that only one side has is infinitely far."""
    if mine is None or other is None:
        return None if mine is None and other is None else float("inf")
    found = distance(mine, other)
    return None if found.within(other.dtype) else found.max_abs
