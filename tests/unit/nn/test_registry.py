"""Modules by config type: open to others, and clear about a type that nobody registered."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from torch import nn

from biject.config.heads import HeadConfig
from biject.config.layers import MLPConfig
from biject.errors import ConfigError
from biject.nn import registry
from biject.nn.heads import make_head
from biject.nn.mlp import MLP
from biject.nn.registry import build, builds


@dataclass(frozen=True)
class Mine:
    size: int


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(ConfigError, match=r"builds a .*Mine; there are modules for AttentionConfig, .*MLPC"):
        build(Mine(3))


def test_a_registered_type_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_MODULES", dict(registry._MODULES))

    @builds(Mine)
    class Module(nn.Module):
        def __init__(self, config: Mine) -> None:
            super().__init__()
            self.size = config.size

    assert build(Mine(3)).size == 3


def test_types_are_not_inherited() -> None:
    """A config that says more than ours is not built by a module that does not know it."""

    @dataclass(frozen=True, kw_only=True)
    class Wider(MLPConfig):
        more: int = 1

    assert isinstance(build(MLPConfig(hidden_size=2, intermediate_size=3, act="relu")), MLP)
    with pytest.raises(ConfigError, match="Wider"):
        build(Wider(hidden_size=2, intermediate_size=3, act="relu"))


def test_an_unknown_head_is_named() -> None:
    class Config:
        head = HeadConfig()

    with pytest.raises(ConfigError, match="registered for HeadConfig; there are heads for BaseHead"):
        make_head(Config())  # type: ignore[arg-type]
