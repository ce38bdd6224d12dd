"""Which modules an adapter changes: by Hugging Face's names, with PEFT's rules.

Source: PEFT 0.21, tuners/tuners_utils.py (check_target_module_exists), utils/other.py (get_pattern_key).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from biject.config.adapter import ALL_LINEAR, LoraConfig
from biject.errors import ConfigError, shown
from biject.weights.diagnose import nearest

HEADS = {"seqcls": ("classifier", "score"), "tokcls": ("classifier", "score"), "qa": ("qa_outputs",)}
"""Modules that PEFT trains whole by the task, by the end of their names."""
_DEFAULTS = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), ("query", "value")),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "smollm3"), ("q_proj", "v_proj")),
    **dict.fromkeys(("gemma2", "gemma3_text", "olmo2"), ("q_proj", "v_proj")),
    **dict.fromkeys(("vit", "deit", "dinov2", "dinov2_with_registers"), ("q_proj", "v_proj")),
    "albert": ("query", "value"),
    "deberta-v2": ("query_proj", "value_proj"),
    "distilbert": ("q_lin", "v_lin"),
    "gpt2": ("c_attn",),
    "modernbert": ("Wqkv",),
    "phi3": ("qkv_proj",),
}
"""PEFT's choice by `model_type` (utils/constants.py), and its kin's where it has none (ALBERT, CamemBERT,
DistilBERT, Qwen3-MoE, SmolLM3, Phi-3, OLMo 2, models of pictures)."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Modules by Hugging Face's names.

    Attributes:
        linear: linears.
        tables: embeddings.
        others: everything else that holds parameters.
        output: the linear over the vocabulary of a language model, which `all-linear` leaves out.
    """

    linear: tuple[str, ...]
    tables: tuple[str, ...]
    others: tuple[str, ...]
    output: str | None
    experts: tuple[str, ...] = ()
    """Matrices of experts, which PEFT adapts as parameters and not as modules."""


def targets(
    config: LoraConfig, candidates: Candidates, *, model_type: str, saved: Collection[str]
) -> list[str]:
    """The modules to adapt, in the candidates' order.

    Args:
        config: The adapter's settings.
        candidates: What there is.
        model_type: Decides where `target_modules` is left out.
        saved: Modules that are trained whole; they and what is in them are never adapted.

    Raises:
        ConfigError: Nothing fits, or something that is neither a linear nor a table does, or experts do.
    """
    wanted = config.target_modules
    if wanted is None:
        wanted = _DEFAULTS.get(model_type)
        if wanted is None:
            raise ConfigError(
                f"`target_modules` is needed: there is no usual choice for {shown(model_type)}; "
                f"{ALL_LINEAR!r} takes every linear but the head."
            )
    every = (*candidates.linear, *candidates.tables, *candidates.others)
    if isinstance(wanted, str) and wanted.lower() == ALL_LINEAR:
        found = [name for name in candidates.linear if name != candidates.output]
    else:
        found = [name for name in every if _fits(name, wanted) and _in_layers(name, config, wanted)]
    found = [name for name in found if not _inside(name, saved) and not _excluded(name, config)]
    _refuse_experts(wanted, found, candidates)
    wrong = [name for name in found if name in candidates.others]
    if wrong:
        raise ConfigError(
            f"`target_modules` names {shown(wrong[0])}, which is neither a linear nor an embedding."
        )
    if not found:
        raise ConfigError(_nothing(wanted, config, every, saved))
    return found


def _refuse_experts(wanted: str | tuple[str, ...], found: Collection[str], candidates: Candidates) -> None:
    """Raise for what PEFT takes as `target_parameters` of experts: `all-linear`, and every target that is
    called like one of their matrices, in a layer without experts, too.

    Source: PEFT 0.21, utils/transformers_weight_conversion.py (_convert_peft_config_moe).
    """
    every = isinstance(wanted, str) and wanted.lower() == ALL_LINEAR
    leaves = {_leaf(one) for one in candidates.experts}
    named = [one for one in candidates.experts if every or _fits(one, wanted)]
    named += [one for one in found if _leaf(one) in leaves]
    if named:
        others = list(dict.fromkeys(_leaf(one) for one in candidates.linear if one != candidates.output))
        raise ConfigError(
            f"`target_modules` {shown(wanted if isinstance(wanted, str) else ', '.join(wanted))} takes "
            f"{shown(named[0])}, and adapters beside experts are not computed (PEFT has parameters there). "
            f"Name others: {', '.join(one for one in others if one not in leaves)}."
        )


def saved_modules(
    config: LoraConfig, names: Collection[str], *, head: str, new: Collection[str]
) -> list[str]:
    """Modules that are trained whole: those of the task's head, of `modules_to_save`, and the new ones.

    Args:
        config: The adapter's settings.
        names: Of all modules that hold parameters.
        head: The model's.
        new: Modules whose parameters no file has.

    Raises:
        ConfigError: `modules_to_save` names something that there is not.
    """
    for wanted in config.modules_to_save:
        if not any(part_of_any(name, (wanted,)) for name in names) and wanted not in HEADS.get(head, ()):
            raise ConfigError(
                f"`modules_to_save` names {shown(wanted)}, which the model does not have "
                f"({_near(wanted, names)})."
            )
    ends = (*HEADS.get(head, ()), *config.modules_to_save)
    return [name for name in names if name in new or part_of_any(name, ends)]


def pattern_value(patterns: Mapping[str, float], name: str, default: float) -> float:
    """The value of the first pattern that fits a module's name."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default


def part_of_any(name: str, ends: Collection[str]) -> bool:
    """Whether the module, or one that it is in, has a name that ends like one of these."""
    parts = name.split(".")
    outer = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return any(one.endswith(end) for one in outer for end in ends)


def _inside(name: str, saved: Collection[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in saved)


def _fits(name: str, wanted: str | tuple[str, ...]) -> bool:
    if isinstance(wanted, str):
        try:
            return re.fullmatch(wanted, name) is not None
        except re.error as error:
            raise ConfigError(f"{shown(wanted)} is no regular expression: {error}.") from error
    return any(name == one or name.endswith(f".{one}") for one in wanted)


def _excluded(name: str, config: LoraConfig) -> bool:
    return config.exclude_modules is not None and _fits(name, config.exclude_modules)


def _in_layers(name: str, config: LoraConfig, wanted: str | tuple[str, ...]) -> bool:
    """PEFT looks at layers only where names are listed, and takes the first number in the name."""
    if not config.layers_to_transform or isinstance(wanted, str) or name in wanted:
        return True
    patterns = config.layers_pattern
    found = None
    if not patterns:
        found = re.match(r".*?\.[^.]*\.(?P<index>\d+)\.", name)
    for pattern in patterns or ():
        found = re.match(rf"(?:^|.*?\.){pattern}\.(?P<index>\d+)\.", name)
        if found:
            break
    return found is not None and int(found["index"]) in config.layers_to_transform


def _nothing(
    wanted: str | tuple[str, ...], config: LoraConfig, every: Collection[str], saved: Collection[str]
) -> str:
    named = wanted if isinstance(wanted, str) else ", ".join(wanted)
    fitting = [name for name in every if isinstance(wanted, str) or _fits(name, wanted)]
    if fitting and any(_inside(name, saved) for name in fitting):
        why = "what they name is trained whole (the head, `modules_to_save`)"
    elif fitting:
        why = "`exclude_modules` or `layers_to_transform` leave nothing of it"
    else:
        one = wanted if isinstance(wanted, str) else wanted[0]
        why = f"the model has no such module ({_near(one, every)})"
    return f"`target_modules` {shown(named)} fits nothing: {why}."


def _near(name: str, names: Collection[str]) -> str:
    parts = _parts(names)
    found = nearest(name, parts)
    return f"nearest: {found}" if found else f"there are {', '.join(parts[:12])}"


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _parts(names: Collection[str]) -> list[str]:
    """Last parts of names, each once."""
    return list(dict.fromkeys(map(_leaf, names)))
