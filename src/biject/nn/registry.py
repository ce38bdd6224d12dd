"""Which module a config is built by: one table by config type, open to other packages.

A package brings an operation of its own with an entry point in the group `biject.modules`: the name is free,
the value is a `module:attribute` that is the module's class, which `@builds(ItsConfig)` has registered on
import. A family's `LayerConfig` then holds that config where ours would be.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

from torch import nn

from biject.config.layers import AttentionConfig, ExpertsConfig, MLPConfig
from biject.errors import ConfigError
from biject.nn.attention import Attention
from biject.nn.experts import Experts
from biject.nn.mlp import MLP

Module = TypeVar("Module", bound=type[nn.Module])
_MODULES: dict[type, type[nn.Module]] = {
    AttentionConfig: Attention,
    MLPConfig: MLP,
    ExpertsConfig: Experts,
}


def builds(config_type: type) -> Callable[[Module], Module]:
    """Have configs of exactly this type built by the decorated module, as `Module(config)`."""

    def register(module: Module) -> Module:
        _MODULES[config_type] = module
        return module

    return register


def build(config: Any) -> nn.Module:
    """The module for a config.

    Raises:
        ConfigError: no module is registered for its type.
    """
    kind = type(config)
    if kind not in _MODULES:
        _load_entry_points()
    if kind not in _MODULES:
        known = ", ".join(sorted(each.__name__ for each in _MODULES))
        raise ConfigError(
            f"No module builds a {kind.__module__}.{kind.__qualname__}; there are modules for {known}. "
            "Register one with `biject.nn.registry.builds`, and name it in the entry points `biject.modules`."
        )
    return _MODULES[kind](config)


@cache
def _load_entry_points() -> None:
    for entry in entry_points(group="biject.modules"):
        entry.load()
