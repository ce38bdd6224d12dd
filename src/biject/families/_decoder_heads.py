"""What all decoders share: heads by name and config, as in transformers 5.23 (modeling_layers.py), and how a
model is put together from its layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from biject.config.checks import probability
from biject.config.common import num_labels
from biject.config.heads import (
    BaseHeadConfig,
    HeadConfig,
    LastHeadConfig,
    SpanHeadConfig,
    TokenHeadConfig,
    VocabHeadConfig,
)
from biject.config.layers import LayerConfig
from biject.config.model import ModelConfig
from biject.config.table import Key
from biject.errors import ConfigError
from biject.families._encoder_heads import first_set
from biject.families._family import Head
from biject.weights.rules import ParamSpecs, head, join, linear, output_matrix

Values = Mapping[str, Any]

DROPOUTS = (
    Key("classifier_dropout", "classifier_dropout", probability(none=True), None),
    Key("hidden_dropout", "hidden_dropout", probability(none=True), None),
)
"""Only token classification reads them (modeling_layers.py, GenericForTokenClassification)."""


def heads(
    stem: str,
    base: Callable[[Values], ParamSpecs],
    *,
    qa_prefix: str | None = None,
    tokens: str = "score",
    causal: str | None = None,
) -> dict[str, Head]:
    """HF's classes of one family.

    Args:
        stem: What their names begin with.
        base: The transformer's specs.
        qa_prefix: What the question answerer calls the base model, if otherwise than the others.
        tokens: What token classification calls its output.
        causal: The name of the class for causal LM, where it is not `…ForCausalLM`.
    """
    return {
        "base": Head(hf_class=f"{stem}Model", specs=base),
        "seqcls": Head(
            hf_class=f"{stem}ForSequenceClassification",
            specs=lambda v: join(base(v), head(linear("head.out", "score", bias=False))),
        ),
        "tokcls": Head(
            hf_class=f"{stem}ForTokenClassification",
            specs=lambda v: join(base(v), head(linear("head.out", tokens, bias=v.get("token_bias", True)))),
        ),
        "qa": Head(
            hf_class=f"{stem}ForQuestionAnswering",
            specs=lambda v: join(base(v), head(linear("head.out", "qa_outputs"))),
            prefix=qa_prefix,
        ),
        "causal": Head(
            hf_class=causal or f"{stem}ForCausalLM",
            specs=lambda v: join(
                base(v), output_matrix("head.decoder.weight", "lm_head.weight", tied_to="embed.tokens.weight")
            ),
        ),
    }


def check_pad(v: Values) -> None:
    """Raise where the padding token has no row; a negative one counts from the end, as in HF."""
    pad, size = v["pad_token_id"], v["vocab_size"]
    if pad is not None and not -size <= pad < size:
        raise ConfigError(f"config.json: `pad_token_id` {pad} is not within `vocab_size` {size}.")


def head_config(v: Values, name: str, *, float32_tokens: bool = True) -> HeadConfig:
    """The head, computed as the classes that HF's decoders share compute it (modeling_layers.py).

    `float32_tokens`: token classification computes its loss in float32 whatever the logits are in.
    """
    match name:
        case "seqcls":
            return LastHeadConfig(num_labels=num_labels(v), problem_type=v["problem_type"])
        case "tokcls":
            return TokenHeadConfig(
                num_labels=num_labels(v),
                dropout=first_set(v["classifier_dropout"], v["hidden_dropout"], 0.1),
                out_bias=v.get("token_bias", True),
                float32_loss=float32_tokens,
            )
        case "qa":
            return SpanHeadConfig(num_labels=2)
        case "causal":
            return VocabHeadConfig(
                num_labels=v["vocab_size"], out_bias=False, causal=True, float32_loss=True,
                softcap=v.get("final_softcap"),
            )  # fmt: skip
    return BaseHeadConfig()


def decoder(v: Values, *, layers: Sequence[LayerConfig], **parts: Any) -> ModelConfig:
    """The config of a causal model that runs its layers in order."""
    return ModelConfig(
        vocab_size=v["vocab_size"],
        hidden_size=v["hidden_size"],
        pad_token_id=v["pad_token_id"],
        layers=tuple(layers),
        layer_order=tuple(range(len(layers))),
        split_at_jumps=not v["use_cache"],
        tied_output=v["tie_word_embeddings"],
        initializer_range=v["initializer_range"],
        output_hidden_states=bool(v["output_hidden_states"]),
        output_attentions=bool(v["output_attentions"]),
        **parts,
    )


def with_spec(layer: LayerConfig, **changes: Any) -> LayerConfig:
    """The layer with other values in its attention's spec."""
    attention = layer.attention
    return replace(layer, attention=replace(attention, spec=replace(attention.spec, **changes)))
