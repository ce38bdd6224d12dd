"""Configuration variants that parity is shown for, beside the families × heads grid of tiny models."""

from __future__ import annotations

from dataclasses import dataclass

from biject.config.activations import ACTIVATIONS
from biject.families import HEADS
from parity.variants.deberta import deberta_variants
from parity.variants.decoders import decoder_variants
from parity.variants.modernbert import modernbert_variants
from parity.variants.variant import Variant, variants_of
from parity.variants.vision import vision_variants

__all__ = ["KNOWN_HF_CRASHES", "VARIANTS", "Crash", "Variant"]

ROBERTAS = ("roberta", "xlm-roberta", "camembert")
BERT_LIKE = ("bert", "roberta", "xlm-roberta", "camembert", "albert", "electra", "deberta-v2")


def _activations() -> list[Variant]:
    all_of_them = (("bert", "hidden_act"), ("distilbert", "activation"), ("albert", "hidden_act"))
    pairs = [(model_type, key, act) for model_type, key in all_of_them for act in sorted(ACTIVATIONS)]
    for model_type in (*ROBERTAS, "electra", "deberta-v2"):  # the same module, so a few will do
        pairs += [(model_type, "hidden_act", act) for act in ("relu", "gelu_new", "silu")]
    return [
        Variant(name=f"act-{act}", model_type=model_type, heads=("mlm",), overrides={key: act})
        for model_type, key, act in pairs
    ]


def _common() -> list[Variant]:
    """What every family has, each under its own key."""
    variants = []
    for model_type in (*BERT_LIKE, "distilbert"):
        dropout = {
            "albert": "classifier_dropout_prob",
            "deberta-v2": "cls_dropout",
            "distilbert": "seq_classif_dropout",
        }.get(model_type, "classifier_dropout")
        variants += variants_of(
            model_type,
            ("labels-1", ("seqcls",), {"num_labels": 1}),
            ("labels-3", ("seqcls", "tokcls"), {"num_labels": 3}),
            ("labels-5", ("seqcls", "tokcls"), {"num_labels": 5}),
            ("regression", ("seqcls",), {"num_labels": 1, "problem_type": "regression"}),
            ("regression-3", ("seqcls",), {"num_labels": 3, "problem_type": "regression"}),
            ("single-label", ("seqcls",), {"num_labels": 3, "problem_type": "single_label_classification"}),
            ("multi-label", ("seqcls",), {"num_labels": 3, "problem_type": "multi_label_classification"}),
            ("classifier-dropout", ("seqcls", "tokcls"), {dropout: 0.4}),
            ("untied", ("mlm",), {"tie_word_embeddings": False}),
            ("chunked", ("base",), {"chunk_size_feed_forward": 4}),
            ("pad-5", ("base", "mlm"), {"pad_token_id": 5, "max_position_embeddings": 70}),
            ("pad-null", ("base",), {} if model_type in ROBERTAS else {"pad_token_id": None}),
            ("odd-widths", ("base", "mlm"), _odd(model_type)),
            ("no-dropout", ("seqcls",), _no_dropout(model_type)),
        )
    for model_type in ("bert", "roberta", "xlm-roberta", "camembert", "albert", "electra"):
        variants += variants_of(
            model_type,
            ("segments-1", ("base",), {"type_vocab_size": 1}),
            ("segments-4", ("base",), {"type_vocab_size": 4}),
            ("eps", ("base",), {"layer_norm_eps": 1e-3}),
        )
    return variants


def _odd(model_type: str) -> dict[str, int]:
    if model_type == "distilbert":
        return {"dim": 37, "n_heads": 1, "hidden_dim": 53}
    return {"hidden_size": 37, "num_attention_heads": 1, "intermediate_size": 53}


def _no_dropout(model_type: str) -> dict[str, float]:
    if model_type == "distilbert":
        return {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    return {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def _albert() -> list[Variant]:
    return variants_of(
        "albert",
        ("groups-2", HEADS, {"num_hidden_groups": 2}),
        ("groups-3", ("base",), {"num_hidden_groups": 3}),
        ("groups-2-of-5", ("base",), {"num_hidden_groups": 2, "num_hidden_layers": 5}),
        ("groups-unused", ("base",), {"num_hidden_groups": 4}),
        ("inner-2", ("base", "mlm"), {"inner_group_num": 2}),
        (
            "groups-2-inner-2",
            ("base", "seqcls"),
            {"num_hidden_groups": 2, "inner_group_num": 2, "num_hidden_layers": 4},
        ),
        ("embedding-same", ("base",), {"embedding_size": 32}),
    )


def _electra() -> list[Variant]:
    return variants_of(
        "electra",
        ("embedding-same", ("base", "mlm", "rtd"), {"embedding_size": 32}),
        ("discriminator-relu", ("rtd", "seqcls", "mlm"), {"hidden_act": "relu"}),
    )


def _distilbert() -> list[Variant]:
    return variants_of(
        "distilbert",
        ("sinusoidal", HEADS, {"sinusoidal_pos_embds": True}),
        ("qa-dropout", ("qa",), {"qa_dropout": 0.4}),
    )


VARIANTS: tuple[Variant, ...] = (
    *_activations(),
    *_common(),
    *_albert(),
    *_electra(),
    *_distilbert(),
    *deberta_variants(),
    *decoder_variants(),
    *modernbert_variants(),
    *vision_variants(),
)


@dataclass(frozen=True, kw_only=True)
class Crash(Variant):
    """A configuration that HF accepts but cannot run, and why. Nothing to be equal to: Biject refuses it."""

    reason: str


KNOWN_HF_CRASHES: tuple[Crash, ...] = (
    Crash(
        name="head-size-12",
        model_type="deberta-v2",
        overrides={"attention_head_size": 12},
        reason="the output projection is built for hidden_size columns, the heads give 4 x 12",
    ),
    Crash(
        name="mlm-new-embedding-16",
        model_type="deberta-v2",
        heads=("mlm",),
        overrides={"legacy": False, "embedding_size": 16},
        reason="the new MLM head multiplies hidden_size columns with embeddings of embedding_size columns",
    ),
    Crash(
        name="conv-4",
        model_type="deberta-v2",
        overrides={"conv_kernel_size": 4},
        reason="an even kernel shortens the sequence by one, the residual does not follow",
    ),
    Crash(
        name="pooler-hidden-size-16",
        model_type="deberta-v2",
        heads=("seqcls",),
        overrides={"pooler_hidden_size": 16},
        reason="the pooler is built for pooler_hidden_size columns and given hidden_size",
    ),
    Crash(
        name="segments-0",
        model_type="bert",
        overrides={"type_vocab_size": 0},
        reason="segment 0 is looked up in an empty embedding",
    ),
)
