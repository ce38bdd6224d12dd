"""Rules about tensor names: wrappers, adapters, twins, tensors that no class reads or that are missing."""

from __future__ import annotations

from biject.verify.lint.facts import Facts, error, warning
from biject.verify.report import Finding
from biject.weights.plan import spellings

_WRAPPERS = {
    "module.": "DataParallel or DistributedDataParallel",
    "_orig_mod.": "torch.compile",
    "base_model.model.": "PEFT",
    "_fsdp_wrapped_module.": "FSDP",
    "0.auto_model.": "sentence-transformers",
    "model.": "a training framework",
}
_ADAPTERS = (
    *(".lora_A.", ".lora_B.", ".lora_embedding_A", ".lora_embedding_B", ".lora_magnitude_vector"),
    *(".base_layer.", ".modules_to_save.", ".original_module.", ".ia3_l", ".hada_w1"),
)
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


def wrapper_prefixes(facts: Facts) -> list[Finding]:
    """`module.`, `_orig_mod.` and their like in front of, or inside, names."""
    found = []
    for wrapper, maker in _WRAPPERS.items():
        names = [name for name in facts.source.tensors if name.startswith(wrapper) or f".{wrapper}" in name]
        if wrapper == "model.":  # so common a word counts only where a name is right without it
            right = _expected(facts)
            names = [name for name in names if name not in right and name.removeprefix(wrapper) in right]
        if names:
            meaning = (
                f"names have `{wrapper}`, which {maker} puts there; transformers matches none of them and "
                "starts from random weights without an error"
            )
            advice = "save the unwrapped model (model.module, model._orig_mod, merge_and_unload), or rename"
            found.append(error("wrapper-prefix", names, meaning, advice))
    return found


def _expected(facts: Facts) -> set[str]:
    """Every name that any head of the family may have on disk."""
    if facts.family is None:
        return set()
    try:
        values = facts.family.config.read(facts.config)
        specs = facts.family.all_specs(facts.family.resolved(values, facts.source.tensors))
    except Exception:  # a broken config is another rule's finding
        return set()
    return {spelling.name(spec) for spelling in spellings(*facts.family.prefixes) for spec in specs}


def adapter_keys(facts: Facts) -> list[Finding]:
    """Adapter weights among the model's, or adapter files beside them."""
    found = []
    names = [name for name in facts.source.tensors if any(mark in f"{name}." for mark in _ADAPTERS)]
    if names:
        meaning = "adapter weights are stored beside the base's; transformers ignores them without PEFT"
        found.append(
            error("adapter-keys", names, meaning, "merge the adapter (merge_and_unload), save again")
        )
    files = [name for name in _ADAPTER_FILES if name in facts.source.assets]
    if files:
        meaning = "transformers with PEFT installed puts this adapter on top of the weights as it loads them"
        advice = "keep adapter and full model in folders of their own"
        found.append(warning("adapter-files", files, meaning, advice))
    return found


def loadable(facts: Facts) -> list[Finding]:
    """Config and tensors do not fit each other; a head or a layer is missing."""
    if facts.problem is None:
        return []
    if facts.family is None:
        meaning = f"{facts.problem} Rules that need to know the family were not applied"
        return [error("unknown-family", "config.json", meaning, "check `model_type`")]
    code = "missing-tensors" if "lacks" in facts.problem else "unusable"
    advice = "export again from the model that has them, or name the class that the tensors fit"
    return [error(code, facts.source.folder.name, facts.problem.rstrip("."), advice)]


def unknown_tensors(facts: Facts) -> list[Finding]:
    """Tensors that no head of the family reads."""
    if facts.identity is None or not facts.identity.plan.unknown:
        return []
    marks = (*_ADAPTERS, *(wrapper for wrapper in _WRAPPERS if wrapper != "model."))
    names = [name for name in facts.identity.plan.unknown if not any(mark in f".{name}." for mark in marks)]
    meaning = "no class of this family reads these tensors; transformers drops them"
    advice = "check that the class is the one it was trained as; remove what is left over"
    return [warning("unknown-tensors", names, meaning, advice)] if names else []


def twins(facts: Facts) -> list[Finding]:
    """Tensors that should be one: stored twice, with different values, or missing."""
    if facts.identity is None or facts.family is None:
        return []
    plan, has = facts.identity.plan, facts.source.tensors
    specs = facts.family.heads[facts.identity.head].specs(facts.identity.values)
    tied = facts.identity.config.tied_output
    found = []
    for spec in specs:
        name = plan.spelling.name(spec)
        other = spec.alias or (facts.disk(spec.tied_to) if spec.tied_to else None)
        if not tied or not other or other == name or name not in has or other not in has:
            continue
        if not facts.same(name, other):
            meaning = (
                "config.json ties them, the file has two different values: transformers 4 used one, "
                "transformers 5 uses both, so the model's outputs depend on the version"
            )
            advice = "write the value it was trained with once, or set `tie_word_embeddings` to false"
            found.append(error("twins-differ", (name, other), meaning, advice))
        elif spec.tied_to and facts.source.format == "safetensors":
            meaning = "one parameter is stored twice; changing one of the two unties them"
            advice = "write it once, as save_pretrained does"
            found.append(warning("twin-stored-twice", (name, other), meaning, advice))
    return found + _embedding_missing(facts, {plan.spelling.name(spec) for spec in specs if spec.tied_to})


def _embedding_missing(facts: Facts, outputs: set[str]) -> list[Finding]:
    """The token table is there only under the name of the output matrix that is tied to it (`outputs`)."""
    assert facts.identity is not None
    table = facts.disk("embed.tokens.weight")
    if table not in outputs or not facts.identity.plan.tied_output:
        return []
    meaning = "the token table is stored only under its twin's name, which other readers may not look for"
    return [warning("twin-missing", table, meaning, "save again with save_pretrained")]
