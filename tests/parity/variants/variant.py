"""What a configuration variant is; the other files of this package list them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One configuration to compare with HF: a family's tiny one with `overrides`, for some heads."""

    name: str
    model_type: str
    heads: tuple[str, ...] = ("base",)
    overrides: Mapping[str, Any] = field(default_factory=dict)


def variants_of(model_type: str, *rows: tuple[str, tuple[str, ...], dict[str, Any]]) -> list[Variant]:
    """Variants of one family from (name, heads, overrides); a row without overrides is none."""
    return [
        Variant(name=name, model_type=model_type, heads=heads, overrides=overrides)
        for name, heads, overrides in rows
        if overrides
    ]
