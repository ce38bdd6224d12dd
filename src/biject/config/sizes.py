"""Shapes of a linear's and a norm's parameters, by name in the module."""

from __future__ import annotations

from collections.abc import Iterator

from biject.config.layers import NormConfig

Shape = tuple[int, ...]
Shapes = Iterator[tuple[str, Shape]]
Parts = Iterator[tuple[str, Shapes]]
"""Modules by name, with their parameters' shapes."""


def linear(inputs: int, outputs: int, *, bias: bool = True, transposed: bool = False) -> Shapes:
    """Of a linear; `transposed` where it is stored (in, out)."""
    yield "weight", (inputs, outputs) if transposed else (outputs, inputs)
    if bias:
        yield "bias", (outputs,)


def norm(config: NormConfig, size: int) -> Shapes:
    """Of a norm over `size` columns; none of the identity."""
    if config.kind != "none":
        yield "weight", (size,)
        if config.kind == "layer" and config.bias:
            yield "bias", (size,)
