"""Models whose layers differ by the kind of their attention, over all tokens or over a window, each kind with
rotary positions of its own (`layer_types`, and `rope_parameters` by kind).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biject.config.checks import anything, integer, number
from biject.config.rope import RopeConfig
from biject.config.table import Inert, Key, Row
from biject.errors import ConfigError
from biject.families._rope import rope

Values = Mapping[str, Any]

BASES = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}
"""Kinds of attention, and what older files call each one's rotary base."""


def layer_type_rows(*, global_base: float, local_base: float, every: int) -> tuple[Row, ...]:
    """Config keys; the arguments are HF's defaults."""
    return (
        Key("layer_types", "layer_types", anything, None),
        Key("global_attn_every_n_layers", "global_attn_every_n_layers", integer(1), every),
        Key("rope_parameters", "rope_parameters", anything, None),
        Key("rope_scaling", "rope_scaling", anything, None),
        Key("global_rope_theta", "global_rope_theta", number(0.0), global_base),
        Key("local_rope_theta", "local_rope_theta", number(0.0), local_base),
        Key("partial_rotary_factor", "partial_rotary_factor", number(0.0, 1.0, none=True), None),
        Inert(("original_max_position_embeddings",)),
    )


def layer_types(v: Values) -> list[str]:
    """The kind of attention of each layer: as listed, else every n-th one over all tokens."""
    count, listed, every = v["num_hidden_layers"], v["layer_types"], v["global_attn_every_n_layers"]
    if listed is None:
        return ["sliding_attention" if i % every else "full_attention" for i in range(count)]
    if (
        not isinstance(listed, list | tuple)
        or len(listed) != count
        or any(each not in (*BASES,) for each in listed)
    ):
        raise ConfigError(
            f"config.json: `layer_types` should name {' or '.join(BASES)} for each of {count} layers."
        )
    return list(listed)


def rope_by_type(v: Values, kind: str, *, head_dim: int) -> RopeConfig:
    """Rotary positions of one kind of attention; `rope_scaling` is for both.

    As in HF, the length that a kind was trained on stands among its own settings only, and yarn's `truncate`
    beside the kinds only.
    """
    nested = v["rope_parameters"] or {}
    given = (nested.get(kind) if isinstance(nested, dict) else nested) or {"rope_type": "default"}
    scaling = v["rope_scaling"] or {}
    if not isinstance(given, dict) or not isinstance(scaling, dict):
        raise ConfigError(
            f"config.json: `rope_parameters` should be an object by kind of attention ({', '.join(BASES)}), "
            "and `rope_scaling` one for all."
        )
    flat = {"rope_theta": v[BASES[kind]], **given, **scaling, "truncate": nested.get("truncate", True)}
    own = {"rope_theta": flat["rope_theta"], "original_positions": None}
    return rope({**v, **own, "rope_parameters": flat, "rope_scaling": None}, head_dim=head_dim)
