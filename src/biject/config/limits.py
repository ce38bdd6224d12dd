"""Sizes that no file can back: refused before anything of such a size is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biject.errors import ConfigError

MAX_STEPS = 10_000
"""More layers than any transformer runs, shared ones counted at each step."""
FREE_LAYERS = 64
FREE_SIZE = 2**20
"""Whatever the file holds, this much costs next to nothing and gets the message that names the tensors."""


def check_sizes(
    values: Mapping[str, Any], *, layers: int, steps: int, num_tensors: int, num_elements: int | None
) -> None:
    """Refuse a config whose layers or sizes cannot be in the file beside it.

    Every layer has a tensor of its own, every size is at most the number of elements of all tensors, and the
    hidden size's square as well, as each layer has such a matrix.

    Args:
        values: The config by field names.
        layers: Layers with tensors of their own.
        steps: Layers that run, one after another.
        num_tensors: Tensors in the file.
        num_elements: Elements of them all; None where that is not known and nothing is built.

    Raises:
        ConfigError: the first size that is too large.
    """
    if layers > max(num_tensors, FREE_LAYERS):
        raise ConfigError(
            f"config.json has {layers} layers, but the file has only {num_tensors} tensors. They "
            "are not of one model: fetch both again."
        )
    if steps > MAX_STEPS:
        raise ConfigError(f"config.json runs {steps} layers, one after another; at most {MAX_STEPS} run.")
    if num_elements is None:
        return
    sizes = {field: value for field, value in values.items() if type(value) is int}
    for field, value in sizes.items():
        needed = value * value if field == "hidden_size" else value
        if needed > max(num_elements, FREE_SIZE**2 if field == "hidden_size" else FREE_SIZE):
            raise ConfigError(
                f"config.json: `{field}` is {value}, but all tensors of the file together have only "
                f"{num_elements} elements. They are not of one model: fetch both again."
            )
