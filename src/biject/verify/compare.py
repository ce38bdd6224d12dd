"""Name the first layer and operation at which two models diverge, from their modules' inputs and outputs.

Two models are paired module by module (ours with HF's through the weight map, or HF's with HF's by name).
Both run the same call; in the order of execution, the first pair whose inputs agree and whose outputs differ
is the operation to blame; a pair whose inputs already differ blames what lies between it and the last pair
that agreed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from biject.nn.traces import Emitted, Traces, emit
from biject.verify.attention_calls import attention_calls, explain
from biject.verify.numbers import same_bits
from biject.verify.report import Check

if TYPE_CHECKING:
    from biject.model import Model

ATTENTION = "the attention itself"
OLD_NORM_NAMES = {"gamma": "weight", "beta": "bias"}


@dataclass(frozen=True)
class Pair:
    """Two modules with the same parameters: their names in our model and in theirs."""

    ours: str
    theirs: str


@dataclass(frozen=True)
class Event:
    """One call of one module."""

    module: str
    call: int
    input: Tensor | None
    output: Tensor


def hf_parameter(
    disk: str, parameters: Mapping[str, Any], prefix: str, in_memory: Callable[[str], str] = str
) -> str | None:
    """HF's name in memory for a tensor of a file: old norm spellings, and the base prefix there or not.

    `a+b` where HF keeps its rows in two parameters, `a[3:0/2]` where they are some of a stack's; `hf_value`
    gives them as they are in the file.
    """
    stored, disk = disk, in_memory(disk)
    if "[" in disk:  # transformers 4 stacks nothing
        stack, _, place = disk.partition("[")
        found = hf_parameter(stack, parameters, prefix)
        return hf_parameter(stored, parameters, prefix) if found is None else f"{found}[{place}"
    if "+" in disk:
        parts = [hf_parameter(one, parameters, prefix) for one in disk.split("+")]
        return None if None in parts else "+".join(map(str, parts))
    parent, _, leaf = disk.rpartition(".")
    name = f"{parent}.{OLD_NORM_NAMES.get(leaf, leaf)}" if parent else disk
    for candidate in (disk, name, name.removeprefix(f"{prefix}."), f"{prefix}.{name}"):
        if candidate in parameters:
            return candidate
    return None


def hf_parts(name: str) -> list[str]:
    """The parameters of HF's that a name of `hf_names` speaks of: mostly one."""
    return name.partition("[")[0].split("+")


def hf_value(values: Mapping[str, Tensor | None], name: str) -> Tensor | None:
    """A parameter's value or gradient by its name in `hf_names`; None where there is none."""
    if "[" in name:
        stack, _, place = name.removesuffix("]").partition("[")
        number, part, count = (int(one) for one in place.replace("/", ":").split(":"))
        whole = values[stack]
        return None if whole is None else whole[number].chunk(count)[part]
    parts = [values[one] for one in name.split("+")]
    found = [part for part in parts if part is not None]
    return None if len(found) < len(parts) else found[0] if len(found) == 1 else torch.cat(found)


def hf_names(ours: Model, theirs: nn.Module) -> dict[str, tuple[str, ...]]:
    """HF's names in memory for each of our parameters; none where HF has no such parameter."""
    parameters = dict(theirs.named_parameters(remove_duplicate=False))
    plan, prefix = ours.provenance.plan, ours.family.prefix_of(ours.head_name)
    found = {
        binding.memory: [
            hf_parameter(disk, parameters, prefix, ours.family.name_in_memory) for disk in binding.disk
        ]
        for binding in (*plan.bindings, *plan.initialized)
    }
    return {memory: tuple(name for name in names if name is not None) for memory, names in found.items()}


def pairs_from_names(names: Mapping[str, tuple[str, ...]], ours: nn.Module, theirs: nn.Module) -> list[Pair]:
    """Pair leaf modules through the names of their parameters, from `hf_names`."""
    our_modules, their_modules = dict(ours.named_modules()), dict(theirs.named_modules())
    pairs = {
        Pair(memory.rpartition(".")[0], name.rpartition(".")[0]): None
        for memory, found in names.items()
        for name in found
        if "+" not in name
    }
    return [
        pair
        for pair in pairs
        if _is_leaf(our_modules.get(pair.ours)) and _is_leaf(their_modules.get(pair.theirs))
    ]


def pairs_by_name(ours: nn.Module, theirs: nn.Module) -> list[Pair]:
    """Pair the leaf modules that have the same name in both models."""
    names = {name for name, module in theirs.named_modules() if _is_leaf(module)}
    return [Pair(name, name) for name, module in ours.named_modules() if _is_leaf(module) and name in names]


def _is_leaf(module: nn.Module | None) -> bool:
    return module is not None and next(module.children(), None) is None


def record(
    model: nn.Module, names: Iterable[str], inputs: Mapping[str, Tensor], **flags: bool
) -> list[Event]:
    """The calls of the named modules during one call of the model, in order of execution, by traces."""
    modules = dict(model.named_modules())
    unique = list(dict.fromkeys(names))
    handles = []
    for index, name in enumerate(unique):
        handles.append(modules[name].register_forward_pre_hook(_emit_inputs(f"{index}:in")))
        handles.append(modules[name].register_forward_hook(_emit_output(f"{index}:out")))
    keys = [f"{index}:{side}" for index in range(len(unique)) for side in ("in", "out")]
    try:
        with Traces(model, *keys) as traces:
            model(**inputs, **flags)
        return _events(list(traces), unique)
    finally:
        for handle in handles:
            handle.remove()


def _emit_inputs(key: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            emit(key, inputs[0].detach().clone())

    return hook


def _emit_output(key: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):
            emit(key, output.detach().clone())

    return hook


def _events(emitted: Iterable[Emitted], names: list[str]) -> list[Event]:
    """Each output with the input that came just before it; leaf modules do not nest."""
    events: list[Event] = []
    calls: dict[str, int] = {}
    waiting: Tensor | None = None
    for value in emitted:
        index, side = value.name.split(":")
        if side == "in":
            waiting = value.value
            continue
        name = names[int(index)]
        call = calls.get(name, 0)
        events.append(Event(name, call, waiting, value.value))
        calls[name], waiting = call + 1, None
    return events


def first_difference(
    ours: nn.Module, theirs: nn.Module, pairs: list[Pair], inputs: Mapping[str, Tensor], **flags: bool
) -> str:
    """Call both models and name, in one phrase, the place where they diverge."""
    with torch.no_grad():
        our_events = record(ours, (pair.ours for pair in pairs), inputs, **flags)
        their_events = record(theirs, (pair.theirs for pair in pairs), inputs, **flags)
    place = locate(our_events, their_events, pairs)
    if not place.endswith(ATTENTION):
        return place
    our_calls, their_calls = (attention_calls(model, inputs, **flags) for model in (ours, theirs))
    found = explain(our_calls, their_calls, inputs.get("attention_mask"))
    return place if found is None else f"{place.removesuffix(ATTENTION)}{found}"


def with_place(checks: list[Check], where: Callable[[], str]) -> list[Check]:
    """The checks; those that failed with the place of the first difference, sought only for them."""
    if all(check.passed for check in checks):
        return checks
    place = where()
    return [check if check.passed else check.at(place) for check in checks]


def locate(our_events: list[Event], their_events: list[Event], pairs: list[Pair]) -> str:
    """The first difference between two recordings, in the order of the second."""
    their_name = {pair.ours: pair.theirs for pair in pairs}
    found = {
        (their_name[event.module], event.call): event for event in our_events if event.module in their_name
    }
    last = "the inputs"
    compared = 0
    for theirs in their_events:
        mine = found.get((theirs.module, theirs.call))
        if mine is None:
            continue
        compared += 1
        name = _label(mine, theirs)
        if not _same_inputs(mine, theirs):
            return f"between {last} and {name}{_hint(mine, last)}"
        if not _same(mine.output, theirs.output):
            return f"{name} itself: same input, other output{_size(mine.output, theirs.output)}"
        last = name
    if not compared:
        return "not located: no paired module was called by both"
    return f"after {last}, the last operation that both share"


def _label(mine: Event, theirs: Event) -> str:
    call = f", call {mine.call + 1}" if mine.call else ""
    other = (
        f" ({theirs.module}{call})"
        if theirs.module != mine.module
        else f" (call {mine.call + 1})"
        if call
        else ""
    )
    return f"{mine.module}{other}"


def _same(mine: Tensor, theirs: Tensor) -> bool:
    if mine.shape != theirs.shape and mine.numel() == theirs.numel():
        mine = mine.reshape(theirs.shape)  # rows of tokens and (batch, length, ...) are the same rows
    return same_bits(mine, theirs)


def _same_inputs(mine: Event, theirs: Event) -> bool:
    """Whether the first inputs agree; an index tensor may be broadcast on one side."""
    a, b = mine.input, theirs.input
    if a is None or b is None:
        return True
    if a.is_floating_point() or a.shape == b.shape:
        return _same(a, b)
    try:
        return bool((a == b).all())
    except RuntimeError:
        return False


def _size(mine: Tensor, theirs: Tensor) -> str:
    if mine.numel() != theirs.numel() or not mine.is_floating_point():
        return f", shapes {tuple(mine.shape)} and {tuple(theirs.shape)}"
    difference = (mine.reshape(-1).double() - theirs.reshape(-1).double()).abs().max()
    return f" (max abs diff = {float(difference):.3g})"


_HINTS = (
    # (what the name of the first module with another input ends with, what lies before it)
    (
        ("attn.o_proj", "attention.output.dense", "attention.dense", "out_lin", "attn.Wo", "attn.c_proj"),
        ATTENTION,
    ),
    (("mlp.down_proj", "output.dense", "ffn_output", "lin2"), "the activation"),
    (("positions", "position_embeddings"), "the position ids"),
    (("segments", "token_type_embeddings"), "the segment ids"),
    (("norm", "LayerNorm", "layer_norm"), "the sum that is normalised"),
)


def _hint(mine: Event, last: str) -> str:
    """What usually lies before a module, from its name."""
    for endings, words in _HINTS:
        if mine.module.endswith(endings):
            return f": {words}"
    return "" if last != "the inputs" else ": what is fed to the first operation"
