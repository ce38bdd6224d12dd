"""What a model has beside its base and an adapter's files would not: refused by name before it is lost."""

from __future__ import annotations

from biject.adapters.keys import tensors_of
from biject.adapters.names import module_names
from biject.adapters.state import Adapter, adapters_of
from biject.config.adapter import is_drawn_from_base
from biject.errors import ConfigError, shown
from biject.model import Model
from biject.parameters import declared

_LISTED = 6


def refuse_loss(model: Model, adapter: Adapter) -> None:
    """Refuse what the files of a model's adapter cannot hold.

    Raises:
        ConfigError: parameters train that are no adapter's and that nobody declared; or tables have rows for
            added tokens that the adapter does not store; or it began with numbers that no file has.
    """
    _refuse_drawn(adapter)
    _refuse_trained(model)
    _refuse_rows(model, adapter)


def _refuse_drawn(adapter: Adapter) -> None:
    if is_drawn_from_base(adapter.config):
        raise ConfigError(
            f"The adapter {shown(adapter.name)} began with a part of each matrix that was found by random "
            f"numbers (`init_lora_weights` {adapter.config.init_lora_weights}), and its files could not say "
            "what is left of the base: whoever loads them draws again. Take `pissa`, which is exact; or "
            "merge_adapter() and save_pretrained the model."
        )


def _refuse_trained(model: Model) -> None:
    kept = {id(p) for one in adapters_of(model).adapters.values() for p in one.trained()}
    kept |= {id(model.get_parameter(b.memory)) for found in declared(model).values() for b in found}
    lost = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in kept]
    if not lost:
        return
    listed = ", ".join(f"`{name}`" for name in lost[:_LISTED])
    more = f" and {len(lost) - _LISTED} more" if len(lost) > _LISTED else ""
    modules = dict.fromkeys(name.rpartition(".")[0] for name in lost)
    ends = {memory: outer.rpartition(".")[2] for outer, memory in module_names(model).items()}
    known = ", ".join(dict.fromkeys(repr(ends[one]) for one in modules if one in ends))
    how = f"name them in modules_to_save ({known}) of its LoraConfig" if known else "declare_adapter them"
    raise ConfigError(
        f"{listed}{more} train beside the adapter, whose files hold its own parameters only, so that they "
        f"would be lost: {how}, or freeze them. (After merge_adapter(), save_pretrained writes them all.)"
    )


def _refuse_rows(model: Model, adapter: Adapter) -> None:
    """The base on disk has other tables than a model that was resized."""
    if model.config.embedding.patches is not None:
        return
    plan = model.provenance.plan
    disk = next(b.disk[0] for b in plan.bindings if b.memory == "embed.tokens.weight")
    before, now = model.source.tensors[disk].shape[0], model.tokens.num_embeddings
    if now == before:
        return
    stored = {id(value) for value in tensors_of(model, adapter).values()}
    homes = (model.get_input_embeddings(), model.get_output_embeddings())
    tables = {name: module for name, module in model.named_modules() if module in homes}
    lost = [
        name
        for name, module in tables.items()
        if f"{name}.weight" not in adapter.saved and id(module.get_parameter("weight")) not in stored
    ]
    if lost:
        ends = {memory: outer.rpartition(".")[2] for outer, memory in module_names(model).items()}
        named = ", ".join(repr(ends.get(name, name)) for name in lost)
        raise ConfigError(
            f"`{lost[0]}` has {now} rows, the base's file {before}: the adapter's files would not have the "
            f"rows of added tokens. Put {named} in modules_to_save of its LoraConfig; or save the resized "
            "model (save_pretrained) and add the adapter to that."
        )
