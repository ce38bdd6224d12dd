"""Rows that every family shares: labels, outputs, and keys that change the maths in ways Biject
does not compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biject.config.checks import anything, boolean, choice, flag, integer, labels, number
from biject.config.table import Const, Inert, Key, Row
from biject.errors import ConfigError

LABELS: tuple[Row, ...] = (
    Key("id2label", "id2label", labels, None),
    Key("label2id", "label2id", anything, None),
    Key("num_labels", "num_labels", integer(1, none=True), None),
    Key(
        "problem_type",
        "problem_type",
        choice(None, "regression", "single_label_classification", "multi_label_classification"),
        None,
    ),
)

_ENCODER_ONLY = "only encoders with bidirectional attention are computed for this family"

_UNUSED = (
    "model_type",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "_name_or_path",
    "bos_token_id",
    "eos_token_id",
    "sep_token_id",
    "cls_token_id",
    "mask_token_id",
    "unk_token_id",
    "gradient_checkpointing",
    "return_dict",
    "torchscript",
    "finetuning_task",
    "output_past",
    "use_bfloat16",
    "task_specific_params",
    "tokenizer_class",
    "prefix",
    "decoder_start_token_id",
    "cross_attention_hidden_size",
    "auto_map",
    "attn_implementation",
    "_attn_implementation",
    "_num_labels",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "use_return_dict",
    "remove_invalid_values",
    "transformers_weights",  # see `checkpoint.source`, which holds it against the file that is read
)
"""Keys without effect on what is computed."""

_GENERATION = (
    "max_length",
    "min_length",
    "do_sample",
    "early_stopping",
    "num_beams",
    "num_beam_groups",
    "diversity_penalty",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "repetition_penalty",
    "length_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "num_return_sequences",
    "output_scores",
    "return_dict_in_generate",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "exponential_decay_length_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
)
"""Generation settings that old files keep in config.json."""

_SHARED: tuple[Row, ...] = (
    *LABELS,
    Key("output_hidden_states", "output_hidden_states", flag, False),
    Key("output_attentions", "output_attentions", flag, False),
    Key("initializer_range", "initializer_range", number(0.0), 0.02),
    Key("architectures", "architectures", anything, None),
    Const("pruned_heads", ({}, None), "pruned attention heads are not computed"),
    Const("per_layer_config", ({}, None), "settings that differ by layer are not computed"),
    Inert((*_UNUSED, *_GENERATION, "quantization_config")),  # the last: see `stored_codes`
)

_ENCODERS: tuple[Row, ...] = (
    *_SHARED,
    Key("tie_word_embeddings", "tie_word_embeddings", boolean, True),
    Const("is_decoder", (False, None), _ENCODER_ONLY),
    Const("add_cross_attention", (False, None), _ENCODER_ONLY),
    Const("is_encoder_decoder", (False, None), _ENCODER_ONLY),
    Const("is_causal", (False, None), _ENCODER_ONLY),
    Inert(("tie_last_hidden_states", "use_cache")),
)

COMMON: tuple[Row, ...] = (
    *_ENCODERS,
    Const("position_embedding_type", ("absolute", None), "relative position embeddings are not computed"),
)
"""Of encoders."""

ROTARY_COMMON: tuple[Row, ...] = (*_ENCODERS, Inert(("position_embedding_type",)))
"""Of encoders that never had embeddings of positions; mmBERT's files say `sans_pos`."""


def causal_rows(*, tied: bool) -> tuple[Row, ...]:
    """Of decoders; `tied`: whether outputs are where config.json does not say."""
    return (
        *_SHARED,
        Key("tie_word_embeddings", "tie_word_embeddings", boolean, tied),
        Const("add_cross_attention", (False, None), "attention to an encoder is not computed"),
        Const("is_encoder_decoder", (False, None), "attention to an encoder is not computed"),
        Const("is_causal", (True, None), "this family is computed with causal attention only"),
        Const("tie_last_hidden_states", (True, None), "hidden states end with the normalised one"),
        Key("use_cache", "use_cache", flag, True),
        Inert(("is_decoder", "chunk_size_feed_forward")),
    )


def num_labels(values: Mapping[str, Any]) -> int:
    """HF's rule (configuration_utils.py, 5.23): `num_labels` where it is given, else `id2label`, else 2."""
    names = values.get("id2label")
    return int(values.get("num_labels") or (2 if names is None else len(names)))


def check_problem(values: Mapping[str, Any]) -> None:
    """HF's rule (configuration_utils.py, 5.23): one class among one is no question, and its loss is 0.

    Raises:
        ConfigError: single-label classification with one label.
    """
    if values.get("problem_type") == "single_label_classification" and num_labels(values) == 1:
        raise ConfigError(
            "`problem_type` is single_label_classification, which needs two labels or more; there is one (by "
            "config.json, or by what was requested in its place), and transformers refuses such a folder. "
            "Give two labels, or the problem_type regression."
        )


def label_names(values: Mapping[str, Any], count: int) -> list[str]:
    """Names of `count` outputs: `id2label`'s where it names as many, else HF's LABEL_0, LABEL_1, …"""
    names = values.get("id2label")
    if not names or stale_labels(values):
        return [f"LABEL_{index}" for index in range(count)]
    by_id = {int(index): str(label) for index, label in names.items()}
    return [by_id[index] for index in sorted(by_id)]


def stale_labels(values: Mapping[str, Any]) -> str | None:
    """In words, that `num_labels` and `id2label` differ; the former counts, and the names are lost."""
    names, count = values.get("id2label"), values.get("num_labels")
    if names is None or count is None or len(names) == count:
        return None
    return (
        f"config.json: `num_labels` is {count}, `id2label` names {len(names)}: transformers takes {count} "
        "and calls them LABEL_0, LABEL_1, …, and so does Biject"
    )
