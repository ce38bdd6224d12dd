"""A model without memory: which parameters a class of transformers has, and where its positions end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules import module as hooks

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


def on_meta(kind: Any, config: Any, *, num_tensors: int, where: str) -> nn.Module:
    """A model of a class, without memory.

    Raises:
        ConfigError: transformers cannot build it, or it would be of far more parts than the file.
    """
    what = f"{where}: transformers cannot build {kind.__name__}"
    with quiet(what), torch.device("meta"), _bounded(num_tensors, where):
        model: nn.Module = kind(config)
    return model


@contextmanager
def _bounded(num_tensors: int, where: str) -> Iterator[None]:
    """Count modules and parameters that this thread makes inside the block, and stop at too many.

    Even without memory a million layers take an hour, and a config has many ways to ask for them.
    """
    most, own, made = _PARTS_PER_TENSOR * num_tensors + _FREE_PARTS, threading.get_ident(), 0

    def count(*_: Any) -> None:
        nonlocal made
        made += threading.get_ident() == own
        if made > most and threading.get_ident() == own:
            raise ConfigError(
                f"{where}: by config.json the model has more than {most:,} modules and parameters, the file "
                f"{num_tensors:,} tensors: they are not of one model."
            )

    handles = [
        hooks.register_module_module_registration_hook(count),
        hooks.register_module_parameter_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


_PARTS_PER_TENSOR, _FREE_PARTS = 4, 10_000


def outline(kind: Any, bases: Sequence[Any], config: Any, *, num_tensors: int, where: str) -> Outline:
    """A class's parameters, and which of them are its head's.

    Args:
        kind: The class with the head.
        bases: Those of the base model alone: of T5 the whole, and its encoder.
        config: transformers' config.
        num_tensors: Of the file.
        where: For messages.
    """
    model = on_meta(kind, config, num_tensors=num_tensors, where=where)
    if not bases or kind in bases:
        return Outline(model, frozenset())
    built = [on_meta(base, config, num_tensors=num_tensors, where=where) for base in bases]
    known = {name for base in built for name in base.state_dict()}
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
    beside = sum(buffer.numel() for buffer in model.buffers())
    if beside > 2 * num_elements + _BUFFER_ELEMENTS:
        raise ConfigError(
            f"{where}: by config.json the model has {beside:,} numbers beside its parameters, the file "
            f"{num_elements:,} numbers: they are not of one model."
        )


_HEAD_ELEMENTS = 1 << 26
"""Of a head that starts new, at most."""
_BUFFER_ELEMENTS = 1 << 28
"""Of masks and tables of positions, which no file holds: GPT-Neo has one of 2048 × 2048 in each layer."""


def first_position(model: nn.Module) -> int:
    """Rows of the table of positions before the first token's: those of RoBERTa begin behind padding's."""
    for name, module in model.named_modules():
        table = isinstance(module, nn.Embedding) and name.endswith("position_embeddings")
        padding: Any = getattr(module, "padding_idx", None)
        if table and padding is not None:
            return int(padding) + 1
    return 0
