"""Rotary positions from config.json, in both of HF's spellings: `rope_parameters`, and `rope_scaling` with
`rope_theta` beside it.

Source: transformers 5.23, modeling_rope_utils.py (RotaryEmbeddingConfigMixin).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biject.config.checks import anything, integer, number
from biject.config.rope import RopeConfig
from biject.config.table import Key, Row
from biject.errors import ConfigError, shown

ROPE_ROWS: tuple[Row, ...] = (
    Key("rope_parameters", "rope_parameters", anything, None),
    Key("rope_scaling", "rope_scaling", anything, None),
    Key("rope_theta", "rope_theta", number(0.0), 10000.0),
    Key("partial_rotary_factor", "partial_rotary_factor", number(0.0, 1.0, none=True), None),
    Key("original_max_position_embeddings", "original_positions", integer(1, none=True), None),
)

_NEEDS = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "proportional": (),
}
"""Types of scaling, and the keys that each cannot do without."""

_OPTIONAL = ("factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim")
_NUMBERS = (*_OPTIONAL, "low_freq_factor", "high_freq_factor", "rope_theta", "partial_rotary_factor")
_LENGTH_FROM_CONFIG = ("yarn", "longrope", "llama3")


def rope(v: Mapping[str, Any], *, head_dim: int) -> RopeConfig:
    """The rotary positions of a config's values.

    Raises:
        ConfigError: a type, a key or a value that HF does not compute either.
    """
    given = _dictionary(v)
    kind = given.get("rope_type", given.get("type", "default"))
    if kind not in _NEEDS:
        raise ConfigError(
            f"config.json: rotary positions of type {shown(kind)} are not computed; Biject knows "
            f"{', '.join(_NEEDS)}."
        )
    _check(given, kind, head_dim)
    theta = given.get("rope_theta", v["rope_theta"])
    part = given.get("partial_rotary_factor", v["partial_rotary_factor"])
    part = 1.0 if part is None else part
    if part != 1.0 and kind not in ("default", "proportional"):
        raise ConfigError(
            f"config.json: `partial_rotary_factor` {part} with rotary positions of type `{kind}`: the heads "
            "of this family are rotated as a whole, and HF fails here, too."
        )
    original = None
    if kind in _LENGTH_FROM_CONFIG:
        original = v["original_positions"] or given.get("original_max_position_embeddings")
        original = original or v["max_position_embeddings"]
    optional: dict[str, Any] = {key: given.get(key) for key in _OPTIONAL}
    made = RopeConfig(
        type="by-wavelength" if kind == "llama3" else kind,
        theta=theta,
        head_dim=head_dim,
        max_position_embeddings=v["max_position_embeddings"],
        original_max_position_embeddings=original,
        proportion=part,
        short_factor=tuple(given.get("short_factor") or ()),
        long_factor=tuple(given.get("long_factor") or ()),
        low_freq_factor=given.get("low_freq_factor"),
        high_freq_factor=given.get("high_freq_factor"),
        truncate=bool(given.get("truncate", True)),
        **optional,
    )
    _refuse_undefined(made)
    return made


def _dictionary(v: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings, flat; `rope_scaling` goes before `rope_parameters` where it is not empty."""
    given = v["rope_scaling"] or v["rope_parameters"] or {}
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"config.json: `rope_parameters` (or `rope_scaling`) should be an object, found {shown(given)}."
        )
    if any(isinstance(value, Mapping) for value in given.values()):
        raise ConfigError(
            "config.json: `rope_parameters` holds settings by layer type, which this family does not have: "
            f"{', '.join(given)}."
        )
    return given


def _check(given: Mapping[str, Any], kind: str, head_dim: int) -> None:
    """Raise on values that cannot be computed with."""
    faults = [f"`{key}` is missing" for key in _NEEDS[kind] if key not in given]
    for key in _NUMBERS:
        wrong = number(0.0, none=True)(given.get(key))
        faults += [f"`{key}` should be {wrong}, found {shown(given[key])}"] if wrong else []
    for key in _NEEDS[kind]:
        if key.endswith("_freq_factor") and not given.get(key):
            faults.append(f"`{key}` should be a number above 0, found {shown(given.get(key))}")
    if kind in ("linear", "dynamic", "llama3") and not given.get("factor"):
        faults.append(f"`factor` should be a number above 0, found {shown(given.get('factor'))}")
    if "rope_theta" in given and not given["rope_theta"]:
        faults.append(f"`rope_theta` should be a number above 0, found {shown(given['rope_theta'])}")
    wrong = integer(1, none=True)(given.get("original_max_position_embeddings"))
    if wrong:
        faults.append(f"`original_max_position_embeddings` should be {wrong}")
    for key in ("short_factor", "long_factor") if kind == "longrope" else ():
        value = given.get(key)
        listed = isinstance(value, list | tuple) and all(number(0.0)(one) is None for one in value)
        if not listed or len(value or ()) != head_dim // 2:
            faults.append(f"`{key}` should be {head_dim // 2} numbers, half the width of a head")
    if kind == "dynamic" and head_dim == 2:
        faults.append("heads of width 2 have no dynamic scaling")
    _raise(kind, faults)


def _refuse_undefined(made: RopeConfig) -> None:
    """Raise on numbers whose formula divides by 0: HF has NaN there, or fails at its first call."""
    faults, original = [], made.original_max_position_embeddings
    if not made.theta:
        faults.append(f"`rope_theta` should be a number above 0, found {shown(made.theta)}")
    if made.type == "yarn" and made.theta == 1:
        faults.append("`rope_theta` should not be 1, whose logarithm is divided by")
    if made.type in ("yarn", "proportional") and made.factor == 0:
        faults.append("`factor` should be a number above 0, found 0")
    if 0 in (*made.short_factor, *made.long_factor):
        faults.append("`short_factor` and `long_factor` should be numbers above 0, found 0")
    if made.type == "longrope" and made.attention_factor is None and original == 1:
        factor = made.max_position_embeddings if made.factor is None else made.factor
        if factor > 1:
            faults.append(
                "`original_max_position_embeddings` should be 2 or more, found 1, or there should be an "
                "`attention_factor`"
            )
    _raise(made.type, faults)


def _raise(kind: str, faults: Sequence[str]) -> None:
    """One error with everything that is wrong, if anything is."""
    if faults:
        raise ConfigError(f"config.json: rotary positions of type `{kind}`: " + "; ".join(faults) + ".")
