"""Names of modules and parameters as Hugging Face's class for a model's head has them, by the weight map."""

from __future__ import annotations

from biject.model import Model
from biject.nn.experts import Experts
from biject.weights.rules import ParamSpecs


def parameter_names(model: Model) -> dict[str, tuple[str, ...]]:
    """Hugging Face's names of every parameter by its name in memory; two where it has it twice."""
    found: dict[str, tuple[str, ...]] = {}
    prefix = _prefix(model)
    own = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for spec in _specs(model):
        if spec.memory in own:
            name = model.family.name_in_memory(prefix + spec.disk if spec.base else spec.disk)
            found[spec.memory] = (name, spec.alias) if spec.alias else (name,)
    return found


def module_names(model: Model) -> dict[str, str]:
    """Names in memory of the modules that hold parameters, by Hugging Face's names, in the map's order.

    A linear that is two in Hugging Face's memory, or one of a stack there, is none that an adapter of theirs
    could name.
    """
    return {
        names[0].rpartition(".")[0]: memory.rpartition(".")[0]
        for memory, names in parameter_names(model).items()
        if not set("+[") & set(names[0])
    }


def expert_names(model: Model) -> tuple[str, ...]:
    """What users call the matrices of experts: transformers 5's names, and the Hub's without numbers."""
    homes = {name for name, module in model.named_modules() if isinstance(module, Experts)}
    found: dict[str, None] = {}
    for memory, names in parameter_names(model).items():
        home, inside, _ = memory.partition(".experts.")
        if inside and home in homes:
            stack = names[0].partition("[")[0]
            start = stack.removesuffix("gate_up_proj")
            parts = ("gate_proj", "up_proj") if start != stack else ()
            found |= dict.fromkeys((stack, *(start + part for part in parts)))
    return tuple(found)


def _prefix(model: Model) -> str:
    return "" if model.head_name == "base" else f"{model.family.prefix_of(model.head_name)}."


def _specs(model: Model) -> ParamSpecs:
    return model.family.require_head(model.head_name).specs(model.resolved_config)
