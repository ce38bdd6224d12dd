"""GLM-4. Source: transformers 5.23, models/glm/modeling_glm.py."""

from __future__ import annotations

from dataclasses import replace

from biject.config.checks import boolean
from biject.config.layers import LayerConfig
from biject.config.model import ModelConfig
from biject.config.table import ConfigTable, Key
from biject.families import _decoder
from biject.families._decoder import TINY, Values, heads, llama_rows
from biject.families._family import Family
from biject.weights.rules import ParamSpecs, embed, join, layers, linear, rms
from biject_glm.config import InterleavedConfig


def backbone(v: Values) -> ParamSpecs:
    """The transformer: LLaMA's names, the gate and the way up in one."""
    inner = join(
        rms("attn_norm", "input_layernorm"),
        *(linear(f"attn.{n}_proj", f"self_attn.{n}_proj", bias=v["attention_bias"]) for n in "qkv"),
        linear("attn.o_proj", "self_attn.o_proj", bias=False),
        rms("mlp_norm", "post_attention_layernorm"),
        linear("mlp.gate_up_proj", "mlp.gate_up_proj", bias=False),
        linear("mlp.down_proj", "mlp.down_proj", bias=False),
    )
    names = [f"layers.{i}" for i in range(v["num_hidden_layers"])]
    return join(embed("embed.tokens", "embed_tokens"), layers(names, inner), rms("final_norm", "norm"))


def build(v: Values, name: str) -> ModelConfig:
    """LLaMA's config with another attention and a fused gate."""
    part = v["partial_rotary_factor"] or 0.5
    llama = _decoder.build({**v, "partial_rotary_factor": None}, name)

    def layer(one: LayerConfig) -> LayerConfig:
        spec, rope = one.attention.spec, one.attention.rope
        attention = InterleavedConfig(
            hidden_size=v["hidden_size"],
            spec=spec,
            rope=replace(rope, head_dim=int(spec.head_dim * part)),
            qkv_bias=v["attention_bias"],
        )
        return replace(one, attention=attention, mlp=replace(one.mlp, gate="fused"))

    return replace(llama, layers=tuple(layer(one) for one in llama.layers))


FAMILY = Family(
    model_type="glm",
    prefix="model",
    config=ConfigTable(
        llama_rows(
            vocab_size=151552,
            intermediate_size=13696,
            max_position_embeddings=131072,
            num_key_value_heads=2,
            head_dim=128,
        ),
        Key("attention_bias", "attention_bias", boolean, True),
    ),
    build=build,
    heads={name: one for name, one in heads("Glm", backbone).items() if name != "qa"},
    tiny={**TINY, "head_dim": 8},
)
