"""Heads: what turns rows into outputs. Each knows which rows it reads, and nobody asks what kind it is.

A new head is a config type in `config/heads.py` and a `Head` here (`register_head` for other packages).
"""

from __future__ import annotations

from biject.config.heads import (
    BaseHeadConfig,
    DetectionHeadConfig,
    DistilledHeadConfig,
    HeadConfig,
    LastHeadConfig,
    PatchMeanHeadConfig,
    PooledHeadConfig,
    SpanHeadConfig,
    TokenHeadConfig,
    VocabHeadConfig,
)
from biject.config.model import ModelConfig
from biject.errors import ConfigError
from biject.nn.heads.base import BaseHead, Head
from biject.nn.heads.pictures import DistilledHead, PatchMeanHead
from biject.nn.heads.pooled import LastHead, PooledHead
from biject.nn.heads.rows import DetectionHead, SpanHead, TokenHead
from biject.nn.heads.vocab import VocabHead

__all__ = ["Head", "make_head", "register_head"]

_HEADS: dict[type[HeadConfig], type[Head]] = {
    BaseHeadConfig: BaseHead,
    PooledHeadConfig: PooledHead,
    LastHeadConfig: LastHead,
    PatchMeanHeadConfig: PatchMeanHead,
    DistilledHeadConfig: DistilledHead,
    TokenHeadConfig: TokenHead,
    SpanHeadConfig: SpanHead,
    DetectionHeadConfig: DetectionHead,
    VocabHeadConfig: VocabHead,
}


def register_head(config_type: type[HeadConfig], head: type[Head]) -> None:
    """Have head configs of exactly this type built by `head(model_config, head_config)`."""
    _HEADS[config_type] = head


def make_head(config: ModelConfig) -> Head:
    """The module for `config.head`.

    Raises:
        ConfigError: no module is registered for its type.
    """
    kind = type(config.head)
    if kind not in _HEADS:
        known = ", ".join(each.__name__ for each in _HEADS)
        raise ConfigError(f"No head is registered for {kind.__name__}; there are heads for {known}.")
    return _HEADS[kind](config, config.head)
