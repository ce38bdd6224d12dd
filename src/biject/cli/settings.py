"""`--set KEY=VALUE`: any setting of a recipe, its value as in TOML or a bare word."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.config.recipe_file import TABLES
from biject.errors import InputError, shown


def put(
    settings: Sequence[str],
    *,
    into: dict[str, Any],
    train: dict[str, Any],
    **others: dict[str, Any],
) -> None:
    """Put settings among a recipe's values.

    Args:
        settings: `key=value` each; `train.` before a key of `[train]`, which may be left out, the name of any
            other table before one of its own.
        into: The recipe's values.
        train: Those of its table `[train]`.
        others: Those of its other tables, by name; those that are left out have no meaning.

    Raises:
        InputError: No such key, a key that was given twice, or something else than `key=value`.
    """
    own = {each.name for each in fields(FinetuneRecipe)} - set(TABLES)
    trains = {each.name for each in fields(TrainConfig)}
    tables = {
        f"{table}.{each.name}": values for table, values in others.items() for each in fields(TABLES[table])
    }
    seen: set[str] = set()
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        name = key.removeprefix("train.")
        if not equals or name not in (trains if key != name else own | trains | tables.keys()):
            near = get_close_matches(name, own | trains | tables.keys(), n=1)
            hint = f" Did you mean {near[0]}?" if near and equals else ""
            raise InputError(f"--set takes KEY=VALUE with a key of a recipe; found {shown(setting)}.{hint}")
        if name in seen:
            raise InputError(f"--set gives {name} twice.")
        seen.add(name)
        if name in tables:
            tables[name][name.partition(".")[2]] = _value(text)
            continue
        (train if name in trains and (key != name or name not in own) else into)[name] = _value(text)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
