"""A recipe's settings: those that differ from the defaults, and the rest; and how two runs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, NamedTuple

from biject.config.recipe import FinetuneRecipe
from biject.config.recipe_file import TABLES
from biject.pages.words import tick


class Setting(NamedTuple):
    """A key of the recipe, its value, and its default (empty where it has none)."""

    name: str
    value: str
    default: str


def settings(recipe: Mapping[str, Any]) -> tuple[tuple[Setting, ...], tuple[Setting, ...]]:
    """Settings that differ from their defaults, and the others."""
    differing, same = [], []
    for name, value in _flat(recipe).items():
        default = _DEFAULTS.get(name, MISSING)
        if default is not MISSING and _plain(default) == _plain(value):
            same.append(Setting(name, _shown(value), ""))
        else:
            differing.append(Setting(name, _shown(value), "" if default is MISSING else _shown(default)))
    return tuple(differing), tuple(same)


def differences(recipes: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Keys whose values are not the same in all recipes, with each one's value."""
    flat = [_flat(recipe) for recipe in recipes]
    names = list(dict.fromkeys(name for recipe in flat for name in recipe))
    return [
        (name, [_shown(recipe.get(name, "")) for recipe in flat])
        for name in names
        if len({_shown(recipe.get(name, "")) for recipe in flat}) > 1
    ]


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in recipe.items():
        if name in TABLES and isinstance(value, Mapping):
            found |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            found[str(name)] = value
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return tick(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


_DEFAULTS = {one.name: _default(one) for one in fields(FinetuneRecipe) if one.name not in TABLES}
for _name, _kind in TABLES.items():
    _DEFAULTS |= {f"{_name}.{one.name}": _default(one) for one in fields(_kind)}
