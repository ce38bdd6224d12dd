"""A mutant, the tools to make one, and the judgement of whether a level catches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from biject.config.model import ModelConfig
from biject.model import Model
from biject.verify.run import run_level
from biject.verify.subject import Subject
from mutants import adapter
from mutants.axes import Axes, axes

CASES = ("right-padded",)
"""The built-in calls that are made to see a mutant, besides labels, attention maps and packed batches."""


class Inapplicable(Exception):
    """A mutant has no place in this model; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One kind of wrong implementation.

    Attributes:
        kind: Its name.
        mutate: Gives the model with the mistake, which may be the given one, changed; raises `Inapplicable`
            where nothing would change.
        level: The level that has to catch it.
    """

    kind: str
    mutate: Callable[[Model], Model]
    level: str = "forward"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one mutant."""

    kind: str
    status: Literal["caught", "missed", "inapplicable"]
    detail: str


def require(condition: object, reason: str) -> None:
    """Raises `Inapplicable` with the reason unless the condition holds."""
    if not condition:
        raise Inapplicable(reason)


def by_config(
    kind: str, change: Callable[[ModelConfig, Axes], ModelConfig], *, level: str = "forward"
) -> Mutant:
    """A mutant that is the model built from a changed config."""

    def mutate(model: Model) -> Model:
        config = change(model.config, axes(model))
        assert config != model.config, f"{kind} changes nothing"
        return adapter.rebuilt(model, config)

    return Mutant(kind=kind, mutate=mutate, level=level)


def in_place(kind: str, change: Callable[[Model, Axes], None], *, level: str = "forward") -> Mutant:
    """A mutant that is the given model with hooks on its modules, or with other modules or parameters."""

    def mutate(model: Model) -> Model:
        change(model, axes(model))
        return model

    return Mutant(kind=kind, mutate=mutate, level=level)


def part(model: Model, name: str) -> nn.Module:
    """A module of the model, or a reason."""
    found = adapter.module(model, name)
    require(found is not None, f"the model has no `{name}`")
    assert isinstance(found, nn.Module)
    return found


def before(module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Let a module see a changed first input."""
    module.register_forward_pre_hook(lambda _, inputs: (change(inputs[0]), *inputs[1:]))


def after(module: nn.Module, change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Let others see a changed output of a module; `change` is given its first input and its output."""
    module.register_forward_hook(lambda _, inputs, output: change(inputs[0], output))


def argument(model: Model, name: str, change: Callable[[Tensor], Tensor | None]) -> None:
    """Let the model see a changed keyword argument, where it is given."""

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], given: dict[str, Tensor | None]) -> object:
        value = given.get(name)
        return inputs, given if value is None else {**given, name: change(value)}

    model.register_forward_pre_hook(hook, with_kwargs=True)


def judge(mutant: Mutant, subject: Subject) -> Outcome:
    """Run the level that has to catch a mutant on a fresh model with it; HF's model is `subject`'s."""
    own = Subject(subject.folder)
    own.loaded = subject.loaded
    own.cases = [case for case in subject.cases if case.name in CASES]
    try:
        own.ours = mutant.mutate(own.ours)
    except Inapplicable as reason:
        return Outcome(kind=mutant.kind, status="inapplicable", detail=str(reason))
    result = run_level(mutant.level, own)
    if not result.failures:  # numbers that differ: a crash would not show what the gate can see
        detail = "nothing differs" if result.status == "pass" else result.reason or "crashed"
        return Outcome(kind=mutant.kind, status="missed", detail=detail)
    check = result.failures[0]
    return Outcome(kind=mutant.kind, status="caught", detail=f"{check.name} {check.detail}; {check.where}")
