"""What a model holds against what its weight plan and declared adapters know: nothing is lost in silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from biject.distributed.ending import let_go_at_exit
from biject.errors import BijectError, CheckpointError, WeightsError
from biject.model import Model
from biject.weights.plan import Binding

T = TypeVar("T")
_LISTED = 8
_COMPILED = "_orig_mod."
"""What `torch.compile(layer)` puts before the names of a layer's parameters."""


def bound_parameters(model: Model) -> dict[str, Tensor]:
    """Every tensor of the weight plan by its memory name, and every declared one of an adapter.

    Raises:
        WeightsError: the model holds a parameter or persistent buffer that neither of them knows, so that a
            checkpoint would lose it; or a module that the plan names has gone.
    """
    plan = model.provenance.plan
    state = {name.replace(_COMPILED, ""): value for name, value in model.state_dict(keep_vars=True).items()}
    known = {binding.memory for binding in (*plan.bindings, *plan.initialized)}
    known |= {binding.memory for bindings in plan.adapters.values() for binding in bindings}
    missing = sorted(known - state.keys())
    if missing:
        raise WeightsError(
            f"The checkpoint's {_names(missing)} cannot be written: the model no longer has them. A module "
            "was replaced or wrapped: keep its parameters' names, as a subclass does, or unwrap it."
        )
    tied = {id(state[name]) for name in known}
    strange = [name for name, tensor in state.items() if name not in known and id(tensor) not in tied]
    if strange:
        raise WeightsError(
            f"{_names(strange)}: neither the checkpoint nor a declared adapter knows such a tensor, so that "
            "saving would lose it. Declare it with model.declare_adapter(name, [its names]), or remove it."
        )
    return {name: tensor for name, tensor in state.items() if name in known}


def is_sharded(model: Model) -> bool:
    """Whether parameters are spread over ranks (`fully_shard`)."""
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


Whole = Callable[[Tensor], Tensor]
"""Makes a tensor whole that is spread over ranks."""


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Copies of a model's tensors, to be written while the model changes.

    Attributes:
        values: by memory name, as `bound_parameters` gives them.
        group: the processes that they are spread over, apart from those that train; None for none.
    """

    values: Mapping[str, Tensor]
    group: Any = None


def on_first_rank(
    model: Model, values: Mapping[str, Tensor], action: Callable[[Whole | None], T], *, group: Any = None
) -> T:
    """`action(whole)`, of a sharded model on the first rank alone; all get its result, or fail if it fails.

    What the action makes whole, the others send at that moment: no rank holds more than one tensor beside
    its part. `whole` is None where nothing is spread. The exchanges are `group`'s, or the run's.

    Raises:
        CheckpointError: what went wrong there.
    """
    if not is_sharded(model):
        return action(None)
    import torch.distributed as dist

    spread = [value for value in values.values() if hasattr(value, "full_tensor")]
    numbers = {id(value): number for number, value in enumerate(spread)}
    wanted: list[int | None] = [None]

    def whole(tensor: Tensor) -> Tensor:
        number = numbers.get(id(tensor))
        if number is None:
            return tensor
        dist.broadcast_object_list([number], group=group)
        return full_tensor(spread[number])

    found: list[T | BijectError | None] = [None]
    if dist.get_rank() == 0:
        try:
            found = [action(whole)]
        except BijectError as error:
            found = [error]
        finally:
            dist.broadcast_object_list([None], group=group)
    while dist.get_rank() != 0:
        dist.broadcast_object_list(wanted, group=group)
        if wanted[0] is None:
            break
        full_tensor(spread[wanted[0]])
    dist.broadcast_object_list(found, group=group)
    if isinstance(found[0], BijectError):
        raise found[0]
    return found[0]  # type: ignore[return-value]


def full_tensor(tensor: Any) -> Tensor:
    """The whole of a tensor; of one that is spread over ranks, gathered: all ranks have to call this."""
    tensor = tensor.detach()
    if not hasattr(tensor, "full_tensor"):
        return tensor  # type: ignore[no-any-return]
    let_go_at_exit()
    whole: Tensor = tensor.full_tensor()
    return whole


def adapter_file(name: str) -> str:
    """Where in a folder the declared parameters of an adapter stand."""
    return f"adapters/{name}/adapter_model.safetensors"


def adapter_files(model: Model, values: Mapping[str, Tensor], whole: Whole | None = None) -> dict[str, bytes]:
    """The files of all declared adapters, from their parameters' values by memory name."""
    make = whole or (lambda tensor: tensor)
    return {
        adapter_file(name): save({b.disk[0]: make(values[b.memory]).cpu().contiguous() for b in bindings})
        for name, bindings in model.provenance.plan.adapters.items()
        if bindings
    }


def declared(model: Model) -> Mapping[str, tuple[Binding, ...]]:
    """What was declared, by name, without the adapters of low rank, whose files are PEFT's."""
    own = () if model.adapters is None else model.adapters.adapters
    return {name: found for name, found in model.provenance.plan.adapters.items() if name not in own}


def declared_files(model: Model) -> dict[str, bytes]:
    """The files of what was declared, as it is now; of a spread model all have to call this."""
    return {
        adapter_file(name): save(
            {b.disk[0]: full_tensor(model.get_parameter(b.memory)).cpu().contiguous() for b in bindings}
        )
        for name, bindings in declared(model).items()
        if bindings
    }


def read_adapters(model: Model, folder: Path) -> None:
    """Put the values that a folder holds into the parameters of all declared adapters.

    In an adapter's folder what does not train may be missing.

    Raises:
        CheckpointError: a file, a tensor or a shape is not what the model declares.
    """
    for name, bindings in declared(model).items():
        path = folder / adapter_file(name)
        if not path.is_file():
            if model.adapters is not None and not any(
                model.get_parameter(b.memory).requires_grad for b in bindings
            ):
                continue
            raise CheckpointError(f"{folder} has no {adapter_file(name)}, which the adapter {name!r} needs.")
        try:
            stored = load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"{path} is damaged: {error}.") from error
        for binding in bindings:
            found, parameter = stored.get(binding.disk[0]), model.get_parameter(binding.memory)
            if found is None or found.shape != parameter.shape:
                raise CheckpointError(
                    f"{path}: `{binding.disk[0]}` should be {tuple(parameter.shape)}, found "
                    f"{'nothing' if found is None else tuple(found.shape)}."
                )
            with torch.no_grad():
                parameter.copy_(found)


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(f"`{name}`" for name in names[:_LISTED]) + more
