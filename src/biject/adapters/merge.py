"""Merge an adapter into its base: the same numbers as PEFT's `merge_and_unload`.

Source: PEFT 0.21, tuners/lora/layer.py (merge), variants.py (merge_unsafe).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from biject.adapters.state import Adapter, adapters_of, put, remove
from biject.errors import ConfigError, WeightsError
from biject.model import Model
from biject.nn.dora import lengths, matrix
from biject.nn.lora_part import LoraPart


@torch.no_grad()
def merge_adapter(model: Model) -> None:
    """Have the model's own parameters compute what the active adapter computes, and take the adapter away.

    Raises:
        ConfigError: there is not exactly one active adapter, or the base is quantised.
        WeightsError: a tied table was trained on one side only, so that no checkpoint of this class can say
            it; or a merged number is not finite.
    """
    there = adapters_of(model)
    if len(there.active) != 1:
        raise ConfigError(
            f"One adapter can be merged at a time; active: {', '.join(there.active) or 'none'}."
        )
    adapter = there.adapters[there.active[0]]
    merged = {name: merged_weight(model.get_submodule(name), part) for name, part in adapter.parts.items()}
    _check(model, adapter, merged)
    own = dict(adapter.own)
    changed = (*(f"{name}.weight" for name in merged), *own)
    remove(model, list(there.adapters))
    for name, parameter in own.items():
        put(model, name, parameter)
    for name, weight in merged.items():
        put(model, f"{name}.weight", nn.Parameter(weight))
    model.tie_weights()
    model.requires_grad_(True)
    about: dict[str, Any] = {"rank": adapter.config.r, "alpha": adapter.config.lora_alpha}
    about |= {key: value for key, value in adapter.record.items() if key.endswith("_sha256")}
    model.provenance = replace(model.provenance, merged={"adapter": about, "parameters": changed})


def merged_weight(module: nn.Module, part: LoraPart) -> Tensor:
    """The matrix with the adapter's part, as it is stored, in its own dtype.

    Raises:
        ConfigError: the matrix is quantised.
    """
    if hasattr(module, "dequantized_weight"):
        raise ConfigError(
            "A quantised base cannot hold a merged adapter: load the base without quantization= and merge "
            "into that (`biject merge` compares both)."
        )
    weight = module.get_parameter("weight").detach().clone()
    delta = part.delta()
    turned = not isinstance(module, nn.Linear)
    if part.lora_magnitude_vector is None:
        weight += delta.t() if turned else delta
        return weight
    length = lengths(matrix(module), delta, 1)
    factor = (part.lora_magnitude_vector / length).view(-1, 1)
    new = (factor.t() if turned else factor) * (weight + (delta.t() if turned else delta))
    return new.to(weight.dtype)


def _check(model: Model, adapter: Adapter, merged: dict[str, Tensor]) -> None:
    _refuse_untied(model, adapter, merged)
    broken = [name for name, weight in merged.items() if not torch.isfinite(weight).all()]
    if broken:
        raise WeightsError(f"Merged, `{broken[0]}.weight` is not finite: the adapter is broken.")


def _refuse_untied(model: Model, adapter: Adapter, merged: dict[str, Tensor]) -> None:
    """Tables that config.json says are one have to hold the same numbers.

    With the adapter active, a table that it trains whole is a parameter of its own.
    """
    output = model.get_output_embeddings()
    if output is None or not model.config.tied_output:
        return
    names = [name for name, module in model.named_modules() if module in (model.tokens, output)]
    one, *others = (merged.get(name, model.get_parameter(f"{name}.weight")) for name in names)
    if all(one is other or torch.equal(one, other) for other in others):
        return
    touched = next((n for n in names if n in merged or f"{n}.weight" in adapter.own), names[-1])
    raise WeightsError(
        f"The adapter changes `{touched}`, tied to the model's other table: merged, the two would differ, "
        "and config.json says that they are one. Keep the adapter apart from its base."
    )
