"""Make a new adapter: find its targets, draw its parameters as PEFT does, put it into the model.

Source: PEFT 0.21, tuners/lora/layer.py (reset_lora_parameters, pissa_init, olora_init), tuners_utils.py
(inject_adapter).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor, nn

from biject.adapters.fit import refuse_ranks, trains_head
from biject.adapters.names import expert_names, module_names, parameter_names
from biject.adapters.state import Adapter, AdapterSet, activate, declare, own_copies
from biject.adapters.targets import (
    HEADS,
    Candidates,
    part_of_any,
    pattern_value,
    saved_modules,
    targets,
)
from biject.checkpoint.adapter import Stored
from biject.config.adapter import TASK_TYPES, LoraConfig
from biject.errors import ConfigError, shown
from biject.model import Model
from biject.nn.dora import first_magnitude, matrix
from biject.nn.lora import adapt, can_adapt, is_linear, sizes
from biject.nn.lora_part import LoraPart
from biject.quantize import restore_linears


def add_adapter(
    model: Model,
    config: LoraConfig,
    name: str = "default",
    *,
    draw: bool = True,
    stored: Stored | None = None,
) -> Adapter:
    """Give a model an adapter and make it the active one.

    Args:
        model: Its parameters stay; they no longer require gradients.
        config: Settings.
        name: What to call it.
        draw: Draw initial values (from torch's global generator); without, they are zeros to be filled.
        stored: The folder that it is filled from.

    Raises:
        ConfigError: No module fits, or the name is taken or no identifier.
        WeightsError: The folder's tensors are far too small for its settings.
    """
    there = model.adapters or AdapterSet()
    if name in there.adapters or not name.isidentifier():
        raise ConfigError(
            f"An adapter called {shown(name)} is there already."
            if name in there.adapters
            else f"An adapter's name should be an identifier, found {shown(name)}."
        )
    hf = module_names(model)
    head = model.head_name
    if stored is not None and not trains_head(stored, TASK_TYPES.get(head), HEADS.get(head, ())):
        head = ""
    saved = saved_modules(config, tuple(hf), head=head, new=_new_modules(model, hf))
    restore_linears(model, (hf[one] for one in saved))
    chosen = targets(config, candidates(model, hf), model_type=model.family.model_type, saved=saved)
    ranks = {hf[one]: int(pattern_value(config.rank_pattern, one, config.r)) for one in chosen}
    if stored is not None:
        refuse_ranks(model, ranks, stored)
    model.adapters = there
    written = _written(config, chosen, saved, head)
    adapter = Adapter(name=name, config=written, base=str(model.source.folder))
    for one in chosen:
        rank = ranks[hf[one]]
        alpha = pattern_value(config.alpha_pattern, one, config.lora_alpha)
        scaling = alpha / math.sqrt(rank) if config.use_rslora else alpha / rank
        adapter.parts[hf[one]] = _part(model, adapter, hf[one], rank, scaling, draw=draw)
    own = [p for p in parameter_names(model) if _module(p) in {hf[one] for one in saved}]
    biases = _biases(model, config, {hf[one] for one in chosen}, own)
    adapter.saved, adapter.biases = tuple(own), tuple(biases)
    adapter.own |= own_copies(model, (*own, *biases))
    there.adapters[name] = adapter
    declare(model, adapter)
    activate(model, [name])
    return adapter


def candidates(model: Model, hf: dict[str, str]) -> Candidates:
    """The model's modules by Hugging Face's names and kind."""
    modules = {name: model.get_submodule(memory) for name, memory in hf.items()}
    output = model.get_output_embeddings()
    return Candidates(
        linear=tuple(name for name, module in modules.items() if is_linear(module)),
        tables=tuple(name for name, module in modules.items() if isinstance(module, nn.Embedding)),
        others=tuple(name for name, module in modules.items() if not can_adapt(module)),
        output=next((name for name, module in modules.items() if module is output), None),
        experts=expert_names(model),
    )


def _new_modules(model: Model, hf: dict[str, str]) -> set[str]:
    """Modules with parameters that no file holds."""
    new = {_module(binding.memory) for binding in model.provenance.plan.initialized}
    return {name for name, memory in hf.items() if memory in new}


def _written(config: LoraConfig, chosen: Collection[str], saved: Collection[str], head: str) -> LoraConfig:
    """The settings with names spelt out, so that another library finds the same modules."""
    listed = config.target_modules
    if listed is None or (isinstance(listed, str) and listed.lower() == "all-linear"):
        listed = tuple(sorted(chosen))
    ends = tuple(dict.fromkeys((*config.modules_to_save, *HEADS.get(head, ()))))
    missing = [one for one in saved if not part_of_any(one, ends)]
    return replace(config, target_modules=listed, modules_to_save=(*ends, *missing))


def _part(model: Model, adapter: Adapter, memory: str, rank: int, scaling: float, *, draw: bool) -> LoraPart:
    """One module's part, in the module's place and dtype (float32 for half ones)."""
    config, module = adapter.config, model.get_submodule(memory)
    table = isinstance(module, nn.Embedding)
    inputs, outputs = sizes(module)
    a, b = _zeros(inputs, outputs, rank)
    if draw:
        a, b = _drawn(config, a, b, table=table)
        kind = config.init_lora_weights
        if isinstance(kind, str) and kind != "gaussian" and not table:
            a, b = _from_matrix(model, adapter, memory, rank, scaling)
    weight = next(module.parameters())
    dtype = torch.float32 if weight.dtype.itemsize < 4 or not weight.is_floating_point() else weight.dtype
    a, b = (x.to(device=weight.device, dtype=dtype) for x in (a, b))
    magnitude = first_magnitude(module, a, b, scaling) if config.use_dora else None
    part = LoraPart(
        a, b, scaling=scaling, dropout=config.lora_dropout, magnitude=magnitude, table=table
    ).train(model.training)
    adapt(module).lora[adapter.name] = part
    return part


def _zeros(inputs: int, outputs: int, rank: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(rank, inputs), torch.zeros(outputs, rank)


def _drawn(config: LoraConfig, a: Tensor, b: Tensor, *, table: bool) -> tuple[Tensor, Tensor]:
    """Initial values, random numbers drawn in PEFT's order: its modules draw before it draws again."""
    kind = config.init_lora_weights
    with torch.no_grad():
        if table:
            a.normal_(), b.normal_()
            if kind is not False:
                a.zero_(), b.normal_()
            return a, b
        nn.init.kaiming_uniform_(a, a=math.sqrt(5)), nn.init.kaiming_uniform_(b, a=math.sqrt(5))
        if kind is True:
            nn.init.kaiming_uniform_(a, a=math.sqrt(5)), b.zero_()
        elif kind == "gaussian":
            a.normal_(std=1 / a.shape[0]), b.zero_()
    return a, b


@torch.no_grad()
def _from_matrix(
    model: Model, adapter: Adapter, memory: str, rank: int, scaling: float
) -> tuple[Tensor, Tensor]:
    """PiSSA (Meng et al. 2024, arXiv:2404.02948) and OLoRA (Büyükakyüz 2024, arXiv:2406.01775).

    The adapter begins with a part of the matrix, and the model with the rest, which is the adapter's own.
    """
    module, kind = model.get_submodule(memory), str(adapter.config.init_lora_weights)
    weight = module.get_parameter("weight")
    if hasattr(module, "dequantized_weight"):
        raise ConfigError(f"`init_lora_weights` {kind} needs a base that is not quantised.")
    wide = matrix(module).float()
    if kind == "olora":
        stored = weight.float()
        q, r = torch.linalg.qr(stored)
        a, b = r[:rank].contiguous(), q[:, :rank].contiguous()
        if stored.shape != wide.shape or not isinstance(module, nn.Linear):
            raise ConfigError("`init_lora_weights` olora is not for matrices that are stored (in, out).")
        rest = stored - scaling * b @ a
    else:
        left, values, right = _singular(wide, rank, kind)
        values = values / scaling
        a = torch.diag(values.sqrt()) @ right
        b = left @ torch.diag(values.sqrt())
        rest = wide - scaling * b @ a
        rest = rest if isinstance(module, nn.Linear) else rest.t().contiguous()
    own = own_copies(model, [f"{memory}.weight"])
    own[f"{memory}.weight"].data = rest.to(weight.dtype)
    adapter.own |= own
    return a, b


def _singular(wide: Tensor, rank: int, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """The `rank` largest singular values and their vectors."""
    if kind == "pissa":
        left, values, right = torch.linalg.svd(wide, full_matrices=False)
        return left[:, :rank], values[:rank], right[:rank]
    left, values, right = torch.svd_lowrank(wide, rank, niter=int(kind.rpartition("_")[2]))
    return left, values, right.t()


def _biases(model: Model, config: LoraConfig, chosen: Collection[str], own: Collection[str]) -> list[str]:
    """Biases of the model that train, beside those of modules that do so whole."""
    if config.bias == "none":
        return []
    names = [name for name in parameter_names(model) if name.endswith(".bias") and name not in own]
    return names if config.bias == "all" else [name for name in names if _module(name) in chosen]


def _module(parameter: str) -> str:
    return parameter.rpartition(".")[0]
