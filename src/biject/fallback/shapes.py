"""A model without memory: which parameters a class of transformers has, and where its positions end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from biject.errors import ConfigError
from biject.fallback.library import quiet


class Outline(NamedTuple):
    """What is known of a class and a config before weights are read.

    Attributes:
        model: On the meta device.
        head: Names of the tensors that the base model does not have.
    """

    model: nn.Module
    head: frozenset[str]


def on_meta(kind: Any, config: Any, *, where: str) -> nn.Module:
    """A model of a class, without memory.

    Raises:
        ConfigError: transformers cannot build it.
    """
    with quiet(f"{where}: transformers cannot build {kind.__name__}"), torch.device("meta"):
        model: nn.Module = kind(config)
    return model


def outline(kind: Any, bases: Sequence[Any], config: Any, *, where: str) -> Outline:
    """A class's parameters, and which of them are its head's.

    Args:
        kind: The class with the head.
        bases: Those of the base model alone: of T5 the whole, and its encoder.
        config: transformers' config.
        where: For messages.
    """
    model = on_meta(kind, config, where=where)
    if not bases or kind in bases:
        return Outline(model, frozenset())
    known = {name for base in bases for name in on_meta(base, config, where=where).state_dict()}
    prefix = f"{getattr(kind, 'base_model_prefix', '')}."
    own = {name for name in model.state_dict() if name.removeprefix(prefix) not in known}
    return Outline(model, frozenset(own))


def check_size(model: nn.Module, *, num_elements: int, where: str) -> None:
    """Refuse a config that makes a model far larger than the file, before memory is taken.

    Raises:
        ConfigError: It does.
    """
    size = sum(parameter.numel() for parameter in model.parameters())
    if size > 2 * num_elements + _HEAD_ELEMENTS:
        raise ConfigError(
            f"{where}: by config.json the model has {size:,} parameters, the file {num_elements:,} numbers: "
            "they are not of one model."
        )


_HEAD_ELEMENTS = 1 << 26
"""Of a head that starts new, at most."""


def first_position(model: nn.Module) -> int:
    """Rows of the table of positions before the first token's: those of RoBERTa begin behind padding's."""
    for name, module in model.named_modules():
        table = isinstance(module, nn.Embedding) and name.endswith("position_embeddings")
        padding: Any = getattr(module, "padding_idx", None)
        if table and padding is not None:
            return int(padding) + 1
    return 0
