"""GPT-2 (Radford et al. 2019). Source: transformers 5.23, models/gpt2/modeling_gpt2.py.

Matrices of the layers are stored (in, out), queries, keys and values in one; segment ids are looked up in the
token table.
"""

from __future__ import annotations

from biject.config.checks import activation, boolean, integer, number, probability
from biject.config.common import causal_rows
from biject.config.layers import AttentionConfig, AttentionSpec, LayerConfig, MLPConfig, NormConfig
from biject.config.model import EmbeddingConfig, ModelConfig
from biject.config.table import ConfigTable, Inert, Key
from biject.errors import ConfigError
from biject.families._decoder_heads import DROPOUTS, Values, check_pad, decoder, head_config, heads, with_spec
from biject.families._family import Family
from biject.weights.rules import ParamSpecs, embed, join, layers, linear
from biject.weights.rules import norm as norm_names


def backbone(v: Values) -> ParamSpecs:
    """The transformer."""
    inner = join(
        norm_names("attn_norm", "ln_1"),
        linear("attn.qkv_proj", "attn.c_attn"),
        linear("attn.o_proj", "attn.c_proj"),
        norm_names("mlp_norm", "ln_2"),
        linear("mlp.up_proj", "mlp.c_fc"),
        linear("mlp.down_proj", "mlp.c_proj"),
    )
    return join(
        embed("embed.tokens", "wte"),
        embed("embed.positions", "wpe"),
        layers([f"h.{i}" for i in range(v["num_hidden_layers"])], inner),
        norm_names("final_norm", "ln_f"),
    )


def buffers(v: Values) -> tuple[str, ...]:
    """Masks that old files hold in every layer."""
    return tuple(
        f"h.{i}.attn.{name}" for i in range(v["num_hidden_layers"]) for name in ("bias", "masked_bias")
    )


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    width, num_heads, count = v["hidden_size"], v["num_attention_heads"], v["num_hidden_layers"]
    if width % num_heads:
        raise ConfigError(f"config.json: `n_embd` {width} is not a multiple of `n_head` {num_heads}.")
    check_pad(v)
    layer = _layer(v, width // num_heads)
    by_layer, scale = v["scale_attn_by_inverse_layer_idx"], layer.attention.spec.scale
    return decoder(
        v,
        layers=[with_spec(layer, scale=scale / float(i + 1) if by_layer else scale) for i in range(count)],
        embedding=EmbeddingConfig(
            size=width,
            order=("positions",),
            position_rule="arange",
            max_position_embeddings=v["max_position_embeddings"],
            dropout=v["embedding_dropout"],
            padding_row=False,
            segments_from_tokens=True,
        ),
        final_norm=layer.mlp_norm,
        head=head_config(v, name, float32_tokens=False),
    )


def _layer(v: Values, head_dim: int) -> LayerConfig:
    width, num_heads = v["hidden_size"], v["num_attention_heads"]
    norm = NormConfig(kind="layer", eps=v["norm_eps"])
    spec = AttentionSpec(
        num_heads=num_heads,
        num_key_value_heads=num_heads,
        head_dim=head_dim,
        scale=head_dim**-0.5 if v["scale_attn_weights"] else 1.0,
        causal=True,
        dropout=v["attention_dropout"],
        upcast=v["reorder_and_upcast_attn"],
    )
    mlp = MLPConfig(
        hidden_size=width,
        intermediate_size=v["intermediate_size"] or 4 * width,
        act=v["hidden_act"],
        transposed=True,
    )
    return LayerConfig(
        hidden_size=width,
        attention=AttentionConfig(hidden_size=width, spec=spec, fused=True, transposed=True),
        mlp=mlp,
        attn_norm=norm,
        mlp_norm=norm,
        placement="pre",
        attn_dropout=v["residual_dropout"],
        mlp_dropout=v["residual_dropout"],
    )


FAMILY = Family(
    model_type="gpt2",
    prefix="transformer",
    config=ConfigTable(
        causal_rows(tied=True),
        DROPOUTS,
        Key("vocab_size", "vocab_size", integer(1), 50257),
        Key("n_positions", "max_position_embeddings", integer(1), 1024, "max_position_embeddings"),
        Key("n_embd", "hidden_size", integer(1), 768, "hidden_size"),
        Key("n_layer", "num_hidden_layers", integer(1), 12, "num_hidden_layers"),
        Key("n_head", "num_attention_heads", integer(1), 12, "num_attention_heads"),
        Key("n_inner", "intermediate_size", integer(1, none=True), None),
        Key("activation_function", "hidden_act", activation, "gelu_new"),
        Key("resid_pdrop", "residual_dropout", probability(), 0.1),
        Key("embd_pdrop", "embedding_dropout", probability(), 0.1),
        Key("attn_pdrop", "attention_dropout", probability(), 0.1),
        Key("layer_norm_epsilon", "norm_eps", number(0.0), 1e-5),
        Key("scale_attn_weights", "scale_attn_weights", boolean, True),
        Key("scale_attn_by_inverse_layer_idx", "scale_attn_by_inverse_layer_idx", boolean, False),
        Key("reorder_and_upcast_attn", "reorder_and_upcast_attn", boolean, False),
        Key("pad_token_id", "pad_token_id", integer(none=True), None),
        Inert(
            (
                "n_ctx",
                "summary_type",
                "summary_use_proj",
                "summary_activation",
                "summary_proj_to_labels",
                "summary_first_dropout",
            )
        ),
    ),
    build=build,
    heads=heads("GPT2", backbone, tokens="classifier", causal="GPT2LMHeadModel"),
    buffers=buffers,
    eager_when=("reorder_and_upcast_attn",),
    tiny={
        "vocab_size": 384,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 1,
    },
    base={
        "vocab_size": 50257,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_positions": 1024,
        "pad_token_id": 50256,
    },
)
