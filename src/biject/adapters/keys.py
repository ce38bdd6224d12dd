"""Names of an adapter's tensors in PEFT's files.

Source: PEFT 0.21, utils/save_and_load.py (get_peft_model_state_dict), tuners/lora/model.py; seen in files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor, nn

from biject.adapters.names import module_names, parameter_names
from biject.adapters.state import Adapter, adapters_of
from biject.checkpoint.adapter import PREFIX
from biject.model import Model

_EMBEDDINGS = ("embed_tokens", "lm_head")
"""Tables that PEFT stores with an adapter that targets them by these names."""


def tensors_of(model: Model, adapter: Adapter) -> dict[str, Tensor]:
    """All tensors of an adapter's file, by PEFT's names, sorted as it writes them."""
    hf, there = module_names(model), adapters_of(model)
    memory = {inner: outer for outer, inner in hf.items()}
    found: dict[str, Tensor] = {}
    for module, part in adapter.parts.items():
        kind = ("lora_embedding_A", "lora_embedding_B") if part.table else ("lora_A.weight", "lora_B.weight")
        found[f"{memory[module]}.{kind[0]}"] = part.lora_A
        found[f"{memory[module]}.{kind[1]}"] = part.lora_B
        if part.lora_magnitude_vector is not None:
            found[f"{memory[module]}.lora_magnitude_vector"] = part.lora_magnitude_vector
    names = parameter_names(model)
    for name in (*adapter.saved, *adapter.biases):
        for key in stored_names(name, names[name], adapter):
            found[key] = adapter.own[name]
    if adapter.config.bias == "all":  # PEFT finds "bias" in both copies of a module that it keeps twice
        for name in adapter.saved:
            if name.endswith(".bias"):
                module = _saved_root(names[name][0], adapter.config.modules_to_save)
                leaf = names[name][0].removeprefix(f"{module}.")
                inner = f"default.{leaf}" if "." in leaf else leaf  # it strips the name from short keys only
                found[f"{module}.modules_to_save.{inner}"] = adapter.own[name]
                found[f"{module}.original_module.{leaf}"] = there.originals[name]
    found |= _tables(model, adapter, memory)
    return {f"{PREFIX}{key}": found[key] for key in sorted(found)}


def stored_names(memory: str, names: Collection[str], adapter: Adapter) -> list[str]:
    """Under which names a parameter of the model stands in the file of an adapter that trains it."""
    adapted = memory.rpartition(".")[0] in adapter.parts
    whole, *others = names
    if adapted:
        module, _, leaf = whole.rpartition(".")
        whole = f"{module}.base_layer.{leaf}"
    return [whole, *others] if adapter.config.bias == "all" or not adapted else [whole]


def _saved_root(name: str, ends: Collection[str]) -> str:
    """The module that PEFT wraps: the first on the way down whose name ends like one of `ends`."""
    parts = name.split(".")
    roots = (".".join(parts[: i + 1]) for i in range(len(parts) - 1))
    return next(root for root in roots if any(root.endswith(end) for end in ends))


def _tables(model: Model, adapter: Adapter, memory: Mapping[str, str]) -> dict[str, Tensor]:
    """Tables that are targets, where PEFT stores what is under an adapter, too."""
    listed = adapter.config.target_modules
    if not isinstance(listed, tuple) or not any(name in listed for name in _EMBEDDINGS):
        return {}
    homes: dict[str, nn.Module | None] = {
        name: module
        for name, module in model.named_modules()
        if module in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    return {
        f"{memory[name]}.base_layer.weight": module.get_parameter("weight")
        for name, module in homes.items()
        if module is not None and name in adapter.parts
    }
