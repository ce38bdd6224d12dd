"""DistilBERT (Sanh et al. 2019). Source: transformers 5.23, models/distilbert/modeling_distilbert.py.

No segments, no pooler, no dropout after the attention's output; norms always have eps 1e-12.
Sinusoidal positions are a table in the file like learned ones (`sinusoidal_pos_embds` only says how
it was first filled).
"""

from __future__ import annotations

from biject.config.checks import activation, boolean, integer, probability
from biject.config.common import COMMON
from biject.config.heads import DenseConfig
from biject.config.model import ModelConfig
from biject.config.table import ConfigTable, Inert, Key
from biject.families._encoder import CHUNKED, Values, check_sizes, embedding, encoder, layer
from biject.families._encoder_heads import encoder_head, encoder_heads, mlm_head
from biject.families._family import Family
from biject.weights.rules import ParamSpecs, embed, head, join, layers, linear, norm, output_matrix


def backbone(v: Values) -> ParamSpecs:
    """The transformer."""
    return join(
        embed("embed.tokens", "embeddings.word_embeddings"),
        embed("embed.positions", "embeddings.position_embeddings"),
        norm("embed_norm", "embeddings.LayerNorm"),
        layers(
            [f"transformer.layer.{i}" for i in range(v["num_hidden_layers"])],
            linear("attn.q_proj", "attention.q_lin"),
            linear("attn.k_proj", "attention.k_lin"),
            linear("attn.v_proj", "attention.v_lin"),
            linear("attn.o_proj", "attention.out_lin"),
            norm("attn_norm", "sa_layer_norm"),
            linear("mlp.up_proj", "ffn.lin1"),
            linear("mlp.down_proj", "ffn.lin2"),
            norm("mlp_norm", "output_layer_norm"),
        ),
    )


def mlm(v: Values) -> ParamSpecs:
    """The masked-LM head."""
    return join(
        head(linear("head.dense", "vocab_transform"), norm("head.norm", "vocab_layer_norm")),
        output_matrix("head.decoder.weight", "vocab_projector.weight", tied_to="embed.tokens.weight"),
        head(linear("head.decoder", "vocab_projector")[1:]),
    )


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    check_sizes(v)
    v = {**v, "norm_eps": 1e-12}
    width, one = v["hidden_size"], layer(v, attn_dropout=0.0, mlp_dropout=v["hidden_dropout"])
    return encoder(
        v,
        layers=[one] * v["num_hidden_layers"],
        embedding=embedding(v, order=("positions",)),
        head=encoder_head(
            v,
            name,
            dropout=v["seqcls_dropout" if name == "seqcls" else "hidden_dropout"],
            mlm=mlm_head(v, size=width, act=v["hidden_act"]),
            qa_dropout=v["qa_dropout"],
            dense=DenseConfig(size=width, act="relu"),
        ),
    )


FAMILY = Family(
    model_type="distilbert",
    prefix="distilbert",
    config=ConfigTable(
        COMMON,
        Key("vocab_size", "vocab_size", integer(1), 30522),
        Key("dim", "hidden_size", integer(1), 768, "hidden_size"),
        Key("n_layers", "num_hidden_layers", integer(1), 6, "num_hidden_layers"),
        Key("n_heads", "num_attention_heads", integer(1), 12, "num_attention_heads"),
        Key("hidden_dim", "intermediate_size", integer(1), 3072),
        Key("activation", "hidden_act", activation, "gelu"),
        Key("dropout", "hidden_dropout", probability(), 0.1),
        Key("attention_dropout", "attention_dropout", probability(), 0.1),
        Key("qa_dropout", "qa_dropout", probability(), 0.1),
        Key("seq_classif_dropout", "seqcls_dropout", probability(), 0.2),
        Key("max_position_embeddings", "max_position_embeddings", integer(1), 512),
        Key("sinusoidal_pos_embds", "sinusoidal_positions", boolean, False),
        Key("pad_token_id", "pad_token_id", integer(0, none=True), 0),
        CHUNKED,
        Inert(("tie_weights_",)),
    ),
    build=build,
    heads=encoder_heads(
        "DistilBert",
        backbone,
        mlm=mlm,
        seqcls=join(linear("head.dense", "pre_classifier"), linear("head.out", "classifier")),
    ),
    passthrough=("embeddings.position_ids",),
    tiny={
        "vocab_size": 99,
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "max_position_embeddings": 64,
    },
    base={"vocab_size": 30522, "dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072},
)
