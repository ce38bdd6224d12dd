"""Level `steps`: K optimizer steps by our trainer are those of a plain PyTorch loop over the HF model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from biject.model import Model
from biject.nn.addresses import align
from biject.pretrained import load
from biject.train.generators import kept
from biject.train.trainer import Trainer
from biject.verify.compare import hf_names, hf_parts, hf_value
from biject.verify.hf import load_hf
from biject.verify.inputs import WITHOUT_LOSS, training_case
from biject.verify.levels.gradients import loss_of
from biject.verify.numbers import distance
from biject.verify.outputs import flatten, without_random
from biject.verify.report import Check, agreement
from biject.verify.subject import Subject, inputs_for, resolved_by_tensors

Batch = Mapping[str, Tensor]
Objective = Callable[[nn.Module, Any], Tensor]

_LR, _CLIP, _DECAY, _SEED = 1e-3, 1.0, 0.01, 21
_SMALL = 1_000_000


def steps(subject: Subject) -> list[Check]:
    """AdamW with dropout, padding, weight decay, clipping and a falling rate: every loss and weight."""
    ours, theirs, missing = _pair(subject)
    count = 20 if sum(p.numel() for p in ours.parameters()) < _SMALL else 5
    cases = [training_case(subject.config, subject.head, seed=seed) for seed in range(count)]
    batches = [inputs_for(theirs, case) for case in cases]
    names = _paired_names(ours, theirs)
    before = {name: _value(theirs, name).clone() for name in names.values()}
    with kept():
        own_losses = train(ours, batches, _objective(subject.head, ()))
        losses = plain_loop(
            theirs,
            batches,
            _objective(subject.head, missing),
            first=[one for name in names.values() for one in name.split("+")],
        )
    case = f"{count} AdamW steps, dropout on, same seed"
    return [
        _compare_losses(own_losses, losses, case),
        _compare_weights(ours, theirs, names, before, case),
    ]


def train(model: Model, batches: Sequence[Batch], objective: Objective | None) -> list[float]:
    """Our side: the trainer as users call it; `objective` only where the head has no loss."""
    settings: dict[str, Any] = {"lr": _LR, "clip_norm": _CLIP, "weight_decay": _DECAY, "seed": _SEED}
    trainer = Trainer(model, step=objective, **settings)
    return trainer.fit(iter(batches), max_steps=len(batches)).losses


def plain_loop(
    model: nn.Module, batches: Sequence[Batch], objective: Objective | None, *, first: Sequence[str]
) -> list[float]:
    """Their side: what a user writes without a framework, and without a line of ours.

    Args:
        model: HF's.
        batches: One for each step.
        objective: Instead of the model's own loss.
        first: Names of parameters in the order in which norms are added up for clipping, which decides the
            last bit of their sum; others follow.
    """
    named = dict(model.named_parameters())
    ordered = {name: named[name] for name in (*first, *named) if name in named}
    plain = {name for name in ordered if name.endswith("bias") or _in_norm(model, name)}
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for n, p in ordered.items() if n not in plain], "weight_decay": _DECAY},
            {"params": [p for n, p in ordered.items() if n in plain], "weight_decay": 0.0},
        ],
        lr=_LR,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (len(batches) - step) / len(batches))
    torch.manual_seed(_SEED)
    losses = []
    model.train()
    for batch in batches:
        optimizer.zero_grad()
        loss = model(**batch).loss if objective is None else objective(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], _CLIP)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


def _pair(subject: Subject) -> tuple[Model, nn.Module, tuple[str, ...]]:
    """Copies of their own, since they change; of half precision, copies in float32, as one trains them."""
    dtype = subject.dtype if torch.finfo(subject.dtype).bits >= 32 else torch.float32
    resolved = resolved_by_tensors(subject.export)
    loaded = load_hf(
        subject.export,
        class_name=subject.hf_class,
        attention=subject.family.backend(subject.config),
        dtype=dtype,
        overrides=resolved,
    )
    ours = load(subject.folder, dtype=dtype, layout="padded", legacy=resolved.get("legacy"))
    align(ours)
    return ours, loaded.model, loaded.missing


def _value(model: nn.Module, name: str) -> Tensor:
    """A parameter's values, or those of several that are one tensor of the file."""
    found = hf_value({one: model.get_parameter(one).detach() for one in hf_parts(name)}, name)
    assert found is not None
    return found


def _objective(head: str, missing: Sequence[str]) -> Objective | None:
    if head not in WITHOUT_LOSS:
        return None
    return lambda model, batch: loss_of(without_random(flatten(model(**batch)), missing))


def _in_norm(model: nn.Module, name: str) -> bool:
    return "norm" in type(model.get_submodule(name.rpartition(".")[0])).__name__.lower()


def _paired_names(ours: Model, theirs: nn.Module) -> dict[str, str]:
    """Our names to HF's (its first name of a tied parameter), in our optimizer's order."""
    parameters = dict(theirs.named_parameters(remove_duplicate=False))
    first = {id(parameter): name for name, parameter in theirs.named_parameters()}
    found = hf_names(ours, theirs)
    return {
        name: _first_names(found[name][0], first, parameters)
        for name, _ in ours.named_parameters()
        if found.get(name)
    }


def _compare_losses(ours: Sequence[float], theirs: Sequence[float], case: str) -> Check:
    worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    differ = [i + 1 for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    detail = "bit-exact (max abs diff = 0)"
    if differ:
        detail = f"max abs diff = {worst:.3g}, from step {differ[0]} on"
    return Check(
        name=f"losses ({len(theirs)})", passed=not differ, detail=detail, case=case, max_abs_diff=worst
    )


def _compare_weights(
    ours: Model, theirs: nn.Module, names: Mapping[str, str], before: Mapping[str, Tensor], case: str
) -> Check:
    wrong, worst, moved = [], 0.0, 0
    for memory, name in names.items():
        mine, other = ours.get_parameter(memory).detach(), _value(theirs, name)
        moved += not torch.equal(other, before[name])
        found = distance(mine, other)
        if not found.within(other.dtype):
            worst = max(worst, found.max_abs)
            wrong.append(f"{memory} (max abs diff = {found.max_abs:.3g})")
    wrong += [f"{name} (HF has none)" for name, _ in ours.named_parameters() if name not in names]
    detail = agreement(wrong) if moved else "no step changed any of them"
    name = f"weights ({len(names)} parameters, {moved} moved)"
    return Check(name=name, passed=not wrong and moved > 0, detail=detail, case=case, max_abs_diff=worst)


def _first_names(name: str, first: Mapping[int, str], parameters: Mapping[str, nn.Parameter]) -> str:
    """A name of `hf_names` with tied parameters under the first of theirs."""
    place = name.partition("[")[1:]
    return "+".join(first[id(parameters[one])] for one in hf_parts(name)) + "".join(place)
