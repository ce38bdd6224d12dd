"""Parameters by the names that people know them by: ours, and those of Hugging Face's classes and files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from biject.errors import ConfigError
from biject.model import Model

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
_BELOW = ("embed", "relative", "rel_embed", "conv", "wte", "wpe")
"""How parts below the layers begin: tables of tokens and positions, and what is computed from them."""


def spellings(model: nn.Module) -> dict[str, set[str]]:
    """Each parameter's name, and the others that it is known by.

    For a model of ours, or one inside of somebody's module: its names in the checkpoint's files, with and
    without the family's prefix, and those behind the name of the attribute that holds it.
    """
    prefix = getattr(model, "name_prefix", "")  # of transformers' model inside of one that wraps it
    base = getattr(model, "base_prefix", "")
    found = {
        name: {name, name.removeprefix(prefix), name.removeprefix(prefix).removeprefix(base)}
        for name, _ in model.named_parameters(remove_duplicate=False)
    }
    for place, module in model.named_modules():
        if not isinstance(module, Model):
            continue
        before = f"{place}." if place else ""
        prefix = f"{module.family.prefix_of(module.head_name)}."
        plan = module.provenance.plan
        for binding in (*plan.bindings, *plan.initialized):
            known = found.get(f"{before}{binding.memory}")
            if known is None:
                continue
            known.add(binding.memory)
            for name in binding.disk:
                short = name.removeprefix(prefix)
                for one in (name, short, f"{prefix}{short}"):
                    known |= {one, f"{before}{one}"}
    return found


def fitting(model: nn.Module, names: Iterable[str], *, setting: str) -> list[str]:
    """The parameters that are called by one of the names, begin with one and a dot, or fit a pattern (`*`).

    Args:
        model: Whose parameters.
        names: Ours or Hugging Face's, e.g. `layers.0`, `bert.encoder.layer.0`, `*.bias`.
        setting: For the message.

    Raises:
        ConfigError: One of the names fits no parameter.
    """
    known = spellings(model)
    chosen: dict[str, None] = {}
    for name in names:
        found = [own for own, spelt in known.items() if any(_fits(one, name) for one in spelt)]
        if not found:
            raise ConfigError(_unknown(name, known, setting))
        chosen |= dict.fromkeys(found)
    return list(chosen)


def _fits(spelt: str, name: str) -> bool:
    if any(mark in name for mark in "*?["):
        return fnmatchcase(spelt, name) or fnmatchcase(spelt, f"{name}.*")
    return spelt == name or spelt.startswith(f"{name}.")


def _unknown(name: str, known: dict[str, set[str]], setting: str) -> str:
    parts = {part for spelt in known.values() for one in spelt for part in _beginnings(one)}
    near = get_close_matches(name, parts, n=3)
    hint = f" There are {', '.join(near)}." if near else ""
    return f"{setting}: no parameter is called {name!r}, fits it or begins with {name + '.'!r}.{hint}"


def _beginnings(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def layer_of(name: str) -> int | None:
    """The number of the layer that a parameter is in; None for what is in none."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def depth_of(name: str, num_layers: int) -> int:
    """The depth of a parameter: 0 for embeddings, then the layers, then what sits on top."""
    layer = layer_of(name)
    if layer is not None:
        return layer + 1
    return 0 if any(part.startswith(_BELOW) for part in name.split(".")) else num_layers + 1
