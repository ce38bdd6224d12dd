"""The names of a draft: rules that expand to one tensor each, concrete, in the style of our family files."""

from __future__ import annotations

from biject.newfamily.facts import Facts
from biject.newfamily.parts import Module
from biject.newfamily.source_text import WIDTH, call, function, listed, quoted

COUNT = 'v["num_hidden_layers"]'
_LAYER_ORDER = (
    "attn_norm",
    *(f"attn.{name}" for name in ("qkv_proj", "q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")),
    "attn_out_norm",
    "mlp_norm",
    *(f"mlp.{name}" for name in ("gate_up_proj", "gate_proj", "up_proj", "down_proj")),
    "mlp_out_norm",
)


def norm_bias(facts: Facts) -> str:
    """Whether norms have a bias, as source text."""
    norms = [m for r, m in {**facts.roles.layer, **facts.roles.base}.items() if r.endswith("_norm")]
    return facts.bias(norms, "norm_bias")


def attention_biases(facts: Facts) -> tuple[str, str]:
    """Of the ways in, and of the way out."""
    get = facts.roles.layer.get
    ways_in = [get(f"attn.{name}_proj") for name in ("qkv", "q", "k", "v")]
    inside = facts.bias(ways_in, "attention_bias", "qkv_bias", "use_qkv_bias", "use_bias")
    return inside, facts.bias([get("attn.o_proj")], "attention_bias", "use_bias")


def mlp_bias(facts: Facts) -> str:
    """Of the MLP's matrices."""
    modules = [module for role, module in facts.roles.layer.items() if role.startswith("mlp.")]
    return facts.bias(modules, "mlp_bias", "use_bias")


def dense_bias(facts: Facts) -> str:
    """Of the linear before a head's output."""
    return facts.bias([facts.roles.head.get("head.dense")], "classifier_bias")


def names(facts: Facts) -> str:
    """The functions that give all names."""
    found = [_norm_helper(facts), backbone(facts), head_names(facts), strays(facts)]
    return "\n\n\n".join(text for text in found if text)


def _norm_helper(facts: Facts) -> str:
    bias = norm_bias(facts)
    if bias in ("True", "False"):
        return ""
    line = f"return norm(memory, disk) if {bias} else rms(memory, disk)"
    return function("_norm(v: Values, memory: str, disk: str) -> ParamSpecs", "A norm.", [line])


def _norm(facts: Facts, memory: str, disk: str) -> str:
    bias = norm_bias(facts)
    if bias in ("True", "False"):
        return f"{'norm' if bias == 'True' else 'rms'}({memory}, {disk})"
    return f"_norm(v, {memory}, {disk})"


def _linear(memory: str, disk: str, bias: str) -> str:
    return f"linear({memory}, {disk}" + (")" if bias == "True" else f", bias={bias})")


def _rule(facts: Facts, role: str, memory: str, disk: str) -> str:
    """One module of a layer."""
    if role.endswith("_norm"):
        return _norm(facts, memory, disk)
    inside, outside = attention_biases(facts)
    bias = mlp_bias(facts) if role.startswith("mlp.") else outside if role == "attn.o_proj" else inside
    return _linear(memory, disk, bias)


def backbone(facts: Facts) -> str:
    """The base model's names."""
    base = facts.roles.base
    tables = [role for role in ("embed.tokens", "embed.positions", "embed.segments") if role in base]
    rules = [f"embed({quoted(role)}, {quoted(base[role].path)})" for role in tables]
    if "embed_norm" in base:
        rules.append(_norm(facts, '"embed_norm"', quoted(base["embed_norm"].path)))
    rules += _layers(facts)
    if "final_norm" in base:
        rules.append(_norm(facts, '"final_norm"', quoted(base["final_norm"].path)))
    if "head.pooler" in base:
        rules.append(f'optional(linear("head.pooler", {quoted(base["head.pooler"].path)}))')
    return function(
        "backbone(v: Values) -> ParamSpecs",
        "The transformer.",
        [f"return {call('join', rules, indent=11)}"],
    )


def _layers(facts: Facts) -> list[str]:
    """Rules for all layers, and for what only some have."""
    container, count, everywhere, partly = facts.parts.container, facts.parts.num_layers, [], []
    for role in _LAYER_ORDER:
        module = facts.roles.layer.get(role)
        if module is None:
            continue
        if len(module.layers) == count:
            everywhere.append(_rule(facts, role, quoted(role), quoted(module.path)))
        else:
            memory, disk = f'f"layers.{{i}}.{role}"', _numbered(container, f".{module.path}")
            rule, some = _rule(facts, role, memory, disk), f"for i in {_range(module, count)}"
            line = f"*({rule} {some})"
            partly.append(line if len(line) < WIDTH - 8 else f"*(\n    {rule}\n    {some}\n)")
    each = f"[{_numbered(container)} for i in range({COUNT})]"
    return [*partly, call("layers", [each, *everywhere], indent=8)]


def _numbered(container: str, rest: str = "") -> str:
    """The name of layer `i`, or of what is in it: names of a file are literals, never f-strings' texts."""
    return f"{quoted(f'{container}.')} + str(i)" + (f" + {quoted(rest)}" if rest else "")


def _range(module: Module, count: int) -> str:
    first = module.layers[0]
    if module.layers == tuple(range(first, count)):
        return f"range({first}, {COUNT})"
    return repr(module.layers)


def head_names(facts: Facts) -> str:
    """What the file's head adds."""
    found, rules = facts.roles.head, []
    if "head.dense" in found:
        path = quoted(found["head.dense"].path)
        rules.append(f"head({_linear(quoted('head.dense'), path, dense_bias(facts))})")
    if "head.norm" in found:
        rules.append(f"head({_norm(facts, quoted('head.norm'), quoted(found['head.norm'].path))})")
    if "head.out" in found:
        bias = str(found["head.out"].has_bias)
        rules.append(f"head({_linear(quoted('head.out'), quoted(found['head.out'].path), bias)})")
    if facts.head in ("mlm", "causal"):
        rules += _decoder(facts)
    if not rules:
        return ""
    return function(
        "head_names(v: Values) -> ParamSpecs",
        f"What `{facts.head}` adds.",
        [f"return {call('join', rules, indent=11)}"],
    )


def _decoder(facts: Facts) -> list[str]:
    """The output over the vocabulary."""
    whole, lone = facts.roles.head.get("head.decoder"), facts.roles.head.get("head.decoder.bias")
    matrix = "lm_head.weight"
    if whole is not None:
        matrix = f"{whole.path}.weight"
    elif lone is not None:
        stem = lone.path if lone.path.endswith("decoder") else f"{lone.path}.decoder"
        matrix = f"{stem}.weight"
    if whole is None:
        facts.notes.append(f"`{matrix}`, the output matrix where it is not tied, is not in this file")
    out = [f'output_matrix("head.decoder.weight", {quoted(matrix)}, tied_to="embed.tokens.weight")']
    owner = lone or whole
    if owner is not None and owner.has_bias:
        rule = f'head(tensor("head.decoder.bias", {quoted(owner.path + ".bias")}))'
        bias = facts.bias([owner], "decoder_bias")
        out.append(rule if bias == "True" else f"{rule} if {bias} else ()")
    return out


def strays(facts: Facts) -> str:
    """Names of every layer under no rule."""
    found = [
        f"{module.path}.{leaf}"
        for place, module in facts.roles.unknown
        if place == "layer" and len(module.layers) == facts.parts.num_layers
        for leaf, _ in module.leaves
    ]
    if not found:
        return ""
    each = f"{_numbered(facts.parts.container, '.')} + name"
    return function(
        "unbound(v: Values) -> tuple[str, ...]",
        "Tensors of every layer that are read and written, but not computed with.",
        [
            "# TODO: give each a parameter, or say why none is needed",
            f"names = {listed(found)}",
            f"return tuple({each} for i in range({COUNT}) for name in names)",
        ],
    )
