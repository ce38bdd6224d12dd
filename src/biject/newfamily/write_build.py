"""`build` of a draft: the modules' config, as far as shapes tell it; each guess under a `# TODO`."""

from __future__ import annotations

from biject.errors import ConfigError, shown
from biject.families._layer_types import BASES
from biject.newfamily.facts import Facts
from biject.newfamily.source_text import call, function
from biject.newfamily.write_head import activation, head
from biject.newfamily.write_names import COUNT, attention_biases, mlp_bias, norm_bias

NO_NORM = 'NormConfig(kind="none")'


def rope_kind(facts: Facts) -> str:
    """`by layer`, `one`, or nothing where positions have a table or config.json has no key for them."""
    if "embed.positions" in facts.roles.base:
        return ""
    given = facts.config.get("rope_parameters")
    if isinstance(given, dict) and set(given) & set(BASES) and "layer_types" in facts.config:
        return "by layer"
    return "one" if {"rope_parameters", "rope_theta", "rope_scaling"} & set(facts.config) else ""


def build(facts: Facts) -> str:
    """The functions that give the modules' config."""
    return "\n\n\n".join([_norm(facts), _layer(facts), head(facts), _build(facts)])


def _norm(facts: Facts) -> str:
    bias, eps = norm_bias(facts), facts.fields.get("norm_eps")
    rms = bias == "False" and (facts.causal or "rms" in (eps or ""))
    given = [f'kind="{"rms" if rms else "layer"}"', f"eps={facts.value('norm_eps') or '1e-5'}"]
    given += [] if rms or bias == "True" else [f"bias={bias}"]
    told = [] if bias == "True" else ["# TODO: without a bias, `rms` and `layer` cannot be told by shape"]
    told += ["# TODO: is the weight applied in float32, is one added to it (`weight`)?"] if rms else []
    return function(
        "norm_config(v: Values) -> NormConfig", "Every norm.", [*told, f"return {call('NormConfig', given)}"]
    )


def _attention(facts: Facts) -> list[str]:
    """Arguments of `AttentionConfig`."""
    layer = facts.roles.layer
    inside, outside = attention_biases(facts)
    out = ["hidden_size=width", "spec=spec"]
    out += ["fused=True"] if "attn.qkv_proj" in layer else []
    out += [] if inside == "True" else [f"qkv_bias={inside}"]
    out += [] if outside == "True" else [f"out_bias={outside}"]
    out += ["transposed=True"] if facts.roles.transposed else []
    if "attn.q_norm" in layer and "attn.k_norm" in layer:
        whole = layer["attn.q_norm"].weight != (facts.sizes.head_dim,)
        out += ["qk_norm=one", *(['qk_norm_over="all heads"'] if whole else [])]
    rope = {"by layer": "rope_by_type(v, layer_types(v)[i], head_dim=head_dim)"}
    rope["one"] = "rope(v, head_dim=head_dim)"
    out += [f"rope={rope[kind]}" for kind in [rope_kind(facts)] if kind]
    return out


def _spec(facts: Facts) -> list[str]:
    """Arguments of `AttentionSpec`."""
    groups = facts.number("num_key_value_heads") or "heads"
    dropout = facts.number("attention_dropout")
    scalar = facts.number("query_pre_attn_scalar")
    scaled = f"{scalar} " if scalar else "head_dim"
    out = [
        "num_heads=heads",
        f"num_key_value_heads={groups}",
        "head_dim=head_dim",
        f"scale={scaled}**{' ' if scalar else ''}-0.5",
    ]
    out += ["causal=True", 'softmax="float32"'] if facts.causal else []
    out += _window(facts)
    out += [f"softcap={capped}" for capped in [facts.number("attn_softcap")] if capped]
    out += ["written_out=True"] if facts.backend == "eager" and facts.causal else []
    return out + ([f"dropout={dropout}"] if dropout else [])


def _window(facts: Facts) -> list[str]:
    """Where config.json names layers with one."""
    kinds, width = facts.config.get("layer_types"), facts.config.get("sliding_window")
    if not facts.causal or type(width) is not int or kinds is None:
        return []
    if not isinstance(kinds, list):
        raise ConfigError(
            f"config.json: `layer_types` should be a list of kinds of attention, found {shown(kinds)}."
        )
    if "sliding_attention" not in kinds:
        return []
    listed = "layer_types(v)" if rope_kind(facts) == "by layer" else 'v["layer_types"]'
    return [f'window=v["sliding_window"] if {listed}[i] == "sliding_attention" else None']


def inner_size(facts: Facts) -> str:
    """The MLP's width: config.json's, or what the tensors have."""
    inner = facts.sizes.inner
    if facts.said("intermediate_size") == inner:
        return 'v["intermediate_size"]'
    return "4 * width" if inner == 4 * facts.sizes.hidden else str(inner)


def _mlp(facts: Facts) -> list[str]:
    """Arguments of `MLPConfig`."""
    layer, bias = facts.roles.layer, mlp_bias(facts)
    gate = "fused" if "mlp.gate_up_proj" in layer else "separate" if "mlp.gate_proj" in layer else ""
    dropout = facts.number("mlp_dropout")
    out = ["hidden_size=width", f"intermediate_size={inner_size(facts)}", f"act={activation(facts)}"]
    out += [f'gate="{gate}"'] if gate else []
    out += [] if bias == "True" else [f"bias={bias}"]
    out += ["transposed=True"] if facts.roles.transposed else []
    return out + ([f"dropout={dropout}"] if dropout else [])


def _norm_of(facts: Facts, role: str) -> str:
    module = facts.roles.layer.get(role)
    if module is None:
        return NO_NORM
    if len(module.layers) == facts.parts.num_layers:
        return "one"
    first = module.layers[0]
    some = module.layers == tuple(range(first, facts.parts.num_layers))
    return f"one if i {f'>= {first}' if some else f'in {module.layers}'} else {NO_NORM}"


def _layer(facts: Facts) -> str:
    pre = "final_norm" in facts.roles.base
    width = facts.number("head_dim") or "width // heads"
    dropout = facts.number("residual_dropout", "hidden_dropout")
    parts = [
        "hidden_size=width",
        f"attention={call('AttentionConfig', _attention(facts), indent=18)}",
        f"mlp={call('MLPConfig', _mlp(facts), indent=14)}",
        f"attn_norm={_norm_of(facts, 'attn_norm')}",
        f"mlp_norm={_norm_of(facts, 'mlp_norm')}",
        *(f"{role}=one" for role in ("attn_out_norm", "mlp_out_norm") if role in facts.roles.layer),
        f'placement="{"pre" if pre else "post"}"',
        *([f"attn_dropout={dropout}", f"mlp_dropout={dropout}"] if dropout else []),
    ]
    return function(
        "layer(v: Values, i: int) -> LayerConfig",
        "Layer `i`.",
        [
            'width, heads = v["hidden_size"], v["num_attention_heads"]',
            f"head_dim, one = {width}, norm_config(v)",
            "# TODO: scale, windows, dtype of the softmax; are rotary positions as usual?",
            f"spec = {call('AttentionSpec', _spec(facts), indent=7)}",
            "# TODO: norms before attention and MLP, or after each one's residual? Where is dropout?",
            f"return {call('LayerConfig', parts, indent=11)}",
        ],
    )


def _embedding(facts: Facts) -> list[str]:
    """Arguments of `EmbeddingConfig`."""
    base = facts.roles.base
    order = [name for name in ("segments", "positions") if f"embed.{name}" in base]
    dropout = facts.number("embedding_dropout", "hidden_dropout")
    out = ['size=v["hidden_size"]']
    out += [f"order=({', '.join(f'{chr(34)}{name}{chr(34)}' for name in order)},)"] if order else []
    out += ['position_rule="arange"'] if "positions" in order else []
    out += [f"max_position_embeddings={facts.number('max_position_embeddings') or 2**20}"]
    out += ['type_vocab_size=v["type_vocab_size"]'] if "segments" in order else []
    out += ["norm=norm_config(v)"] if "embed_norm" in base else []
    return out + ([f"dropout={dropout}"] if dropout else [])


def _build(facts: Facts) -> str:
    parts = [
        "v",
        f"layers=[layer(v, i) for i in range({COUNT})]",
        f"embedding={call('EmbeddingConfig', _embedding(facts), indent=18)}",
        *(["final_norm=norm_config(v)"] if "final_norm" in facts.roles.base else []),
        "head=head_config(v, name)",
    ]
    tables = any(f"embed.{name}" in facts.roles.base for name in ("positions", "segments"))
    told = ["# TODO: the order in which tables are added; how positions count"] if tables else []
    told += ["# TODO: are the token rows multiplied by something (`scale`)?"] if facts.causal else []
    return function(
        "build(v: Values, name: str) -> ModelConfig",
        "The modules' config.",
        [
            "check_pad(v)" if facts.causal else "check_sizes(v)",
            *told,
            f"return {call('decoder' if facts.causal else 'encoder', parts, indent=11)}",
        ],
    )
