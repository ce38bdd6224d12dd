"""Recipes as TOML: read strictly, written so that they reproduce a run."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from biject.config.adapter import LoraConfig
from biject.config.augment import AugmentConfig
from biject.config.embed import EmbedConfig
from biject.config.preference import PreferenceConfig
from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.config.sync import SyncConfig
from biject.errors import ConfigError, InputError

NONE = "none"
"""TOML has no null: this word stands for it, in settings that may be left out."""

Table = type[TrainConfig | SyncConfig | LoraConfig | AugmentConfig | PreferenceConfig | EmbedConfig]
TABLES: dict[str, Table] = {
    "train": TrainConfig,
    "sync": SyncConfig,
    "adapter": LoraConfig,
    "augment": AugmentConfig,
    "preference": PreferenceConfig,
    "embed": EmbedConfig,
}
"""Tables of a recipe, and what they make."""
_TABLE_KEYS = {name: tuple(field.name for field in fields(kind)) for name, kind in TABLES.items()}
_KEYS = tuple(field.name for field in fields(FinetuneRecipe))
_REQUIRED = tuple(field.name for field in fields(FinetuneRecipe) if field.default is MISSING)
_OPTIONAL = frozenset(
    field.name
    for kind in (*TABLES.values(), FinetuneRecipe)
    for field in fields(kind)
    if "None" in str(field.type)
)
_LARGEST_BYTES = 1 << 20


def read_recipe(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; names and values are checked by `make_recipe`.

    Raises:
        InputError: The file cannot be read, or is no TOML.
    """
    try:
        data = path.read_bytes()
        if len(data) > _LARGEST_BYTES:
            raise InputError(f"{path} is no recipe: it has {len(data)} bytes.")
        return tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise InputError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # TOML's and UTF-8's
        raise InputError(f"{path} is no recipe in TOML: {error}.") from error
    except RecursionError as error:
        raise InputError(f"{path} is no recipe in TOML: nested beyond reason.") from error


def make_recipe(values: Mapping[str, Any], *, where: str = "the recipe") -> FinetuneRecipe:
    """A recipe of plain values.

    Raises:
        ConfigError: A key is unknown (the message names the nearest), missing, or has a wrong value.
    """
    tables = {name: values.get(name, {}) for name in TABLES}
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"{where}: `{name}` should be a table, written as [{name}].")
    faults = [_unknown(key, _KEYS) for key in values if key not in _KEYS]
    for name, keys in _TABLE_KEYS.items():
        faults += [_unknown(f"{name}.{key}", keys) for key in tables[name] if key not in keys]
    lacking = [f"`{name}`" for name in _REQUIRED if name not in values]
    faults += [f"{', '.join(lacking)} must be given"] if lacking else []
    if faults:
        raise ConfigError(f"{where}: " + "; ".join(faults) + ".")
    plain = {key: _null(key, value) for key, value in values.items()}
    for name, table in tables.items():
        plain[name] = {key: _null(key, value) for key, value in table.items()}
    try:
        return msgspec.convert(plain, FinetuneRecipe)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_words(str(error))}.") from error


def _words(fault: str) -> str:
    """What msgspec found wrong, with the values that a choice allows."""
    fault = fault.replace("$.", "")
    table, _, name = fault.rpartition("`")[0].rpartition("`")[2].rpartition(".")
    kind: type = TABLES.get(table, FinetuneRecipe)
    choices = get_args(get_type_hints(kind).get(name))
    if "enum value" in fault and choices:
        return f"{fault}, which is one of {', '.join(str(c) for c in choices if isinstance(c, str))}"
    return fault


def _unknown(key: str, keys: tuple[str, ...]) -> str:
    name = key.rpartition(".")[2]
    inside = key[: len(key) - len(name)]
    for table, others in {"": _KEYS, **_TABLE_KEYS}.items():
        if name in others:
            return f"there is no `{key}`: it is called `{table}{'.' if table else ''}{name}`"
    near = difflib.get_close_matches(name, keys, n=1, cutoff=0.5)
    hint = f"nearest: `{inside}{near[0]}`" if near else f"there are {', '.join(keys)}"
    return f"there is no `{key}` ({hint})"


def _null(key: str, value: Any) -> Any:
    return None if value == NONE and key in _OPTIONAL else value


def dump_recipe(recipe: FinetuneRecipe, *, comment: str = "") -> str:
    """TOML with every setting that has a value; `read_recipe` gives it back."""
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += _lines(recipe, skip=tuple(TABLES))
    for name in TABLES:
        lines += ["", f"[{name}]", *_lines(getattr(recipe, name))]
    return "\n".join(lines) + "\n"


def _lines(recipe: Any, *, skip: tuple[str, ...] = ()) -> list[str]:
    lines = []
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if field.name in skip or (value is None and field.default is None) or value == {}:
            continue
        assert value is not None or field.default is not MISSING
        lines.append(f"{field.name} = {_toml(NONE if value is None else value)}")
    return lines


def _toml(value: Any) -> str:
    """A value in TOML's spelling; JSON's strings are TOML's, but for DEL."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return repr(value)
