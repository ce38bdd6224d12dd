"""Dropout switched off for good: in modules, and in what these keep of their configs."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import nn

_RATES = ("dropout", "dropout_rate")


def switch_off_dropout(model: nn.Module) -> None:
    """Have a model draw no random numbers in training; its config, which is exported, stays."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
            continue
        for name, value in list(vars(module).items()):
            if name in _RATES and isinstance(value, float):
                setattr(module, name, 0.0)
            elif is_dataclass(value) and not isinstance(value, type) and "dropout" in _fields(value):
                vars(module)[name] = replace(value, dropout=0.0)


def _fields(value: Any) -> set[str]:
    return {field.name for field in fields(value)}
