"""A model's adapters: which there are, which are active, and what the model's own parameters were before.

Parameters that an adapter replaces whole (a head, biases, what PiSSA leaves of a matrix) are its own: they
stand in the model while it is active, under the same names, and the model's come back without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch import nn

from biject.config.adapter import LoraConfig
from biject.errors import ConfigError, shown
from biject.model import Model
from biject.nn.lora import LoraModule, restore
from biject.nn.lora_part import LoraPart
from biject.weights.plan import Binding


@dataclass(kw_only=True)
class Adapter:
    """One adapter on one model.

    Attributes:
        name: As the caller calls it.
        config: Its settings, `target_modules` spelt out.
        parts: What it adds, by the module's name in memory.
        own: Parameters that stand in place of the model's, by name.
        saved: Those of `own` that are trained whole.
        biases: Those of `own` that are trained biases.
        base: The folder or repository whose model it belongs to.
        record: What is written of it beside PEFT's files.
    """

    name: str
    config: LoraConfig
    parts: dict[str, LoraPart] = field(default_factory=dict)
    own: dict[str, nn.Parameter] = field(default_factory=dict)
    saved: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()
    base: str = ""
    record: dict[str, Any] = field(default_factory=dict)

    def trained(self) -> Iterator[nn.Parameter]:
        """What training changes."""
        for part in self.parts.values():
            yield from part.parameters()
        for name in (*self.saved, *self.biases):
            yield self.own[name]


@dataclass(kw_only=True)
class AdapterSet:
    """What `model.adapters` is.

    Attributes:
        adapters: By name.
        active: Names of those that are computed, in order.
        originals: The model's own parameters that an adapter has its own for.
    """

    adapters: dict[str, Adapter] = field(default_factory=dict)
    active: tuple[str, ...] = ()
    originals: dict[str, nn.Parameter] = field(default_factory=dict)


def adapters_of(model: Model) -> AdapterSet:
    """The model's, which may be none.

    Parameters that stand in the model are looked up there: `fully_shard` puts others in their place.

    Raises:
        ConfigError: it has none.
    """
    if model.adapters is None:
        raise ConfigError("The model has no adapter: add one (add_adapter), or load one (adapter=).")
    there = cast(AdapterSet, model.adapters)
    for name in there.active:
        own = there.adapters[name].own
        own.update((place, model.get_parameter(place)) for place in own)
    return there


def activate(model: Model, names: Sequence[str]) -> None:
    """Compute these adapters, and train their parameters only.

    Raises:
        ConfigError: there is no such adapter, or two have a parameter of their own in the same place.
    """
    there = adapters_of(model)
    for name in names:
        if name not in there.adapters:
            raise ConfigError(f"There is no adapter {shown(name)}; there are {', '.join(there.adapters)}.")
    chosen = [there.adapters[name] for name in names]
    owners: dict[str, str] = {}
    for one in chosen:
        for name in one.own:
            if owners.setdefault(name, one.name) != one.name:
                raise ConfigError(
                    f"Adapters {shown(owners[name])} and {shown(one.name)} both have a `{name}` of their "
                    "own: only one of them can be active."
                )
    own = {name: parameter for one in chosen for name, parameter in one.own.items()}
    for name, original in there.originals.items():
        put(model, name, own.get(name, original))
    for module in model.modules():
        if isinstance(module, LoraModule):
            module.active = tuple(names)
    there.active = tuple(names)
    model.requires_grad_(False)
    for one in chosen:
        for parameter in one.trained():
            parameter.requires_grad_(True)


@contextmanager
def without_adapters(model: Model) -> Iterator[None]:
    """The model's own outputs for a while."""
    before = adapters_of(model).active
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    activate(model, ())
    try:
        yield
    finally:
        activate(model, before)
        model.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)


def put(model: Model, name: str, parameter: nn.Parameter) -> None:
    """Have a parameter stand under a name; where the model now has its parameters, in their dtype."""
    module, _, leaf = name.rpartition(".")
    home = model.get_submodule(module)._parameters
    there = home[leaf]
    assert there is not None
    if parameter.device != there.device or parameter.dtype != there.dtype:
        parameter.data = parameter.data.to(device=there.device, dtype=there.dtype)
    home[leaf] = parameter


def own_copies(model: Model, names: Iterable[str]) -> dict[str, nn.Parameter]:
    """Parameters of an adapter's own, with the model's values; the model's are kept to go back to."""
    there, found = adapters_of(model), {}
    for name in names:
        original = there.originals.setdefault(name, model.get_parameter(name))
        found[name] = nn.Parameter(original.detach().clone())
    return found


def declare(model: Model, adapter: Adapter) -> None:
    """Have saving know what the adapter adds."""
    plan = model.provenance.plan
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    added = [names[id(p)] for part in adapter.parts.values() for p in part.parameters()]
    model.provenance = replace(model.provenance, plan=plan.with_adapter(adapter.name, added))


def remove(model: Model, names: Iterable[str]) -> None:
    """Take adapters away; the model's own parameters come back, and train again when none is left."""
    there = adapters_of(model)
    gone = set(names)
    activate(model, [name for name in there.active if name not in gone])
    plan = model.provenance.plan
    for name in gone:
        there.adapters.pop(name)
    owned = {name for one in there.adapters.values() for name in one.own}
    there.originals = {name: original for name, original in there.originals.items() if name in owned}
    for module in list(model.modules()):
        if isinstance(module, LoraModule):
            for name in gone & set(module.lora):
                del module.lora[name]
            if not len(module.lora):
                restore(module)
    kept: Mapping[str, tuple[Binding, ...]] = {k: v for k, v in plan.adapters.items() if k not in gone}
    model.provenance = replace(model.provenance, plan=replace(plan, adapters=kept))
    if not there.adapters:
        model.adapters = None
        for parameter in model.parameters():
            if parameter.is_floating_point():  # codes have no gradients
                parameter.requires_grad_(True)
