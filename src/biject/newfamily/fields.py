"""Which key of a config.json means which of our fields: by the name that a known family has for it, else by
its words; and the check that a row gets, as source text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from biject.config.activations import ACTIVATIONS
from biject.config.common import COMMON, causal_rows
from biject.config.table import Check, ConfigTable, Key
from biject.families import families
from biject.newfamily.source_text import literal, quoted

_MEANINGS: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("d_model", "emb_dim", "n_embd", "dim", "hidden_dim", "model_dim"),
    "num_hidden_layers": ("n_layers", "n_layer", "num_layers", "encoder_layers"),
    "num_attention_heads": ("n_heads", "n_head", "num_heads", "encoder_attention_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv"),
    "head_dim": ("head_size", "d_kv"),
    "intermediate_size": ("ffn_dim", "d_ff", "n_inner", "ffn_hidden_size", "encoder_ffn_dim"),
    "max_position_embeddings": ("n_positions", "max_seq_len", "max_sequence_length", "n_ctx"),
    "hidden_act": ("hidden_activation", "activation_function", "activation", "act_fn"),
    "norm_eps": ("norm_eps", "norm_epsilon", "layer_norm_epsilon", "layernorm_epsilon", "rms_norm_eps"),
    "attention_dropout": ("attn_dropout", "attn_pdrop", "attention_dropout_prob"),
    "residual_dropout": ("resid_pdrop", "resid_dropout"),
    "embedding_dropout": ("embd_pdrop", "embd_dropout", "embed_dropout"),
    "attn_softcap": ("attn_logit_softcapping", "attention_logit_softcapping"),
    "final_softcap": ("final_logit_softcapping", "logits_soft_cap"),
    "query_pre_attn_scalar": ("query_pre_attn_scalar",),
    "sliding_window": ("sliding_window",),
    "layer_types": ("layer_types",),
}
"""Words for what every family has, beside the names in the tables of known ones."""

_CHECKS: Mapping[str, str] = {"hidden_act": "activation", "norm_eps": "number(0.0)"}


def shared(config: Mapping[str, Any], *, causal: bool) -> frozenset[str]:
    """Keys on disk that the rows for every encoder, or every decoder, have."""
    return ConfigTable(causal_rows(tied=False) if causal else COMMON).known & frozenset(config)


def find_fields(config: Mapping[str, Any]) -> dict[str, str]:
    """Our fields, and the key of this config.json that says each."""
    known = _known_keys(config)
    found: dict[str, str] = {}
    for name, keys in known.items():
        if name in config:
            field = Counter(key.field for key in keys).most_common(1)[0][0]
            found.setdefault(field, name)
    for field, words in _MEANINGS.items():
        named = next((word for word in words if word in config), None)
        if named is not None:
            found.setdefault(field, named)
    said = set(found.values())
    for name, value in config.items():
        if name not in said and _says_itself(name, value):
            found.setdefault(name, name)
    return found


def _says_itself(name: str, value: Any) -> bool:
    """Whether a key that no family knows is plainly a bias, a dropout or an activation."""
    if isinstance(value, bool):
        return "bias" in name.split("_")
    if isinstance(value, int | float):
        return "dropout" in name or "pdrop" in name
    return isinstance(value, str) and value in ACTIVATIONS


def _known_keys(config: Mapping[str, Any]) -> dict[str, list[Key]]:
    """Rows of known families, the checkpoint's own aside, by their name on disk."""
    rows: dict[str, list[Key]] = {}
    for family in families().values():
        if family.model_type != config.get("model_type"):
            for key in family.config.keys.values():
                rows.setdefault(key.name, []).append(key)
    return rows


def row(config: Mapping[str, Any], field: str, name: str) -> str:
    """A `Key` as source text; its default is what this config.json says."""
    keys = [key for key in _known_keys(config).get(name, []) if key.field == field]
    value = config.get(name)
    fitting = [key for key in keys if key.check(value) is None]
    check = check_text(fitting[0].check) if fitting else _check_by_value(field, value)
    return f"Key({quoted(name)}, {quoted(field)}, {check}, {literal(value)}),"


def check_text(check: Check) -> str:
    """The source text of a check that `config/checks.py` made."""
    made: Callable[..., Any] = check
    name = made.__qualname__.split(".")[0]
    given = dict(
        zip(made.__code__.co_freevars, (c.cell_contents for c in made.__closure__ or ()), strict=True)
    )
    if name == "choice":
        return f"choice({', '.join(map(literal, given['allowed']))})"
    if name not in ("integer", "number"):
        return name
    none = ["none=True"] if given.get("none") else []
    bounds = [given[key] for key in ("minimum", "maximum") if given.get(key) is not None]
    if name == "number" and bounds == [0.0, 1.0]:
        return f"probability({', '.join(none)})"
    return f"{name}({', '.join([*map(repr, bounds), *none])})"


def _check_by_value(field: str, value: Any) -> str:
    """For a key that no known family has under this name."""
    if field in _CHECKS:
        return _CHECKS[field]
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "activation" if value in ACTIVATIONS else "text"
    if "dropout" in field:
        return "probability()"
    if isinstance(value, int):
        return "integer(0)"
    return "number()" if isinstance(value, float) else "anything"
