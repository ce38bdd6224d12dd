"""Names of the parameters and buffers of LLaMA-like decoders, in memory and on disk."""

from __future__ import annotations

from collections.abc import Mapping

from biject.families._decoder_heads import Values
from biject.weights.rules import ParamSpecs, embed, join, layers, linear, rms

BEFORE = {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
"""LLaMA's norms of a layer, by their names in memory."""
AFTER = {"attn_out_norm": "post_attention_layernorm", "mlp_out_norm": "post_feedforward_layernorm"}
"""Norms over what attention and MLP give."""


def backbone(
    v: Values,
    *,
    qkv_bias: bool,
    out_bias: bool,
    mlp_bias: bool,
    qk_norm: bool,
    norms: Mapping[str, str] = BEFORE,
) -> ParamSpecs:
    """The transformer; `norms`: those of a layer, and their names on disk."""
    here = {name: rms(name, disk) for name, disk in norms.items()}
    inner = join(
        here.get("attn_norm", ()),
        linear("attn.q_proj", "self_attn.q_proj", bias=qkv_bias),
        linear("attn.k_proj", "self_attn.k_proj", bias=qkv_bias),
        linear("attn.v_proj", "self_attn.v_proj", bias=qkv_bias),
        linear("attn.o_proj", "self_attn.o_proj", bias=out_bias),
        rms("attn.q_norm", "self_attn.q_norm") if qk_norm else (),
        rms("attn.k_norm", "self_attn.k_norm") if qk_norm else (),
        here.get("attn_out_norm", ()),
        here.get("mlp_norm", ()),
        linear("mlp.gate_proj", "mlp.gate_proj", bias=mlp_bias),
        linear("mlp.up_proj", "mlp.up_proj", bias=mlp_bias),
        linear("mlp.down_proj", "mlp.down_proj", bias=mlp_bias),
        here.get("mlp_out_norm", ()),
    )
    return join(
        embed("embed.tokens", "embed_tokens"),
        layers([f"layers.{i}" for i in range(v["num_hidden_layers"])], inner),
        rms("final_norm", "norm"),
    )


def buffers(v: Values) -> tuple[str, ...]:
    """Frequencies that old files hold in every layer."""
    names = (f"layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(v["num_hidden_layers"]))
    return ("rotary_emb.inv_freq", *names)
