"""Where ModernBERT's tensors stand in a checkpoint. Source: transformers 5.23, modeling_modernbert.py."""

from __future__ import annotations

from biject.families._encoder import Values
from biject.weights.rules import (
    ParamSpecs,
    embed,
    head,
    join,
    layers,
    linear,
    norm,
    output_matrix,
    rms,
    tensor,
)


def _norm(v: Values, memory: str, disk: str) -> ParamSpecs:
    return norm(memory, disk) if v["norm_bias"] else rms(memory, disk)


def backbone(v: Values) -> ParamSpecs:
    """The transformer."""
    count, bias, mlp_bias = v["num_hidden_layers"], v["attention_bias"], v["mlp_bias"]
    return join(
        embed("embed.tokens", "embeddings.tok_embeddings"),
        _norm(v, "embed_norm", "embeddings.norm"),
        *(_norm(v, f"layers.{i}.attn_norm", f"layers.{i}.attn_norm") for i in range(1, count)),
        layers(
            [f"layers.{i}" for i in range(count)],
            linear("attn.qkv_proj", "attn.Wqkv", bias=bias),
            linear("attn.o_proj", "attn.Wo", bias=bias),
            _norm(v, "mlp_norm", "mlp_norm"),
            linear("mlp.gate_up_proj", "mlp.Wi", bias=mlp_bias),
            linear("mlp.down_proj", "mlp.Wo", bias=mlp_bias),
        ),
        _norm(v, "final_norm", "final_norm"),
    )


def dense(v: Values) -> ParamSpecs:
    """What every head has before its output."""
    bias = v["classifier_bias"]
    return head(linear("head.dense", "head.dense", bias=bias), _norm(v, "head.norm", "head.norm"))


def mlm(v: Values) -> ParamSpecs:
    """The masked-LM head."""
    return join(
        dense(v),
        output_matrix("head.decoder.weight", "decoder.weight", tied_to="embed.tokens.weight"),
        head(tensor("head.decoder.bias", "decoder.bias")) if v["decoder_bias"] else (),
    )
