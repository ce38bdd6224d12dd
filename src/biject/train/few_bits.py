"""Optimizers of bitsandbytes: moments in 8 bits, or paged out to the CPU's memory where a GPU's is full."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from biject.config.recipe import TrainConfig
from biject.errors import ConfigError
from biject.nn.quantised import bitsandbytes

_CLASSES = {
    "adamw_8bit": "AdamW8bit",
    "adamw_bnb_8bit": "AdamW8bit",
    "lion_8bit": "Lion8bit",
    "lion_32bit": "Lion32bit",
    "paged_adamw_8bit": "PagedAdamW8bit",
    "paged_adamw_32bit": "PagedAdamW32bit",
    "paged_lion_8bit": "PagedLion8bit",
    "paged_lion_32bit": "PagedLion32bit",
}
"""HF's names, and the classes in bitsandbytes.optim."""
NAMES = frozenset(_CLASSES)


def make(config: TrainConfig, groups: list[dict[str, Any]]) -> Optimizer:
    """The optimizer of the config's name over parameter groups.

    Raises:
        ConfigError: the parameters' device has none.
        MissingExtraError: bitsandbytes is not installed.
    """
    name = config.optimizer
    device = next(parameter.device for group in groups for parameter in group["params"])
    if name.startswith("paged_") and device.type != "cuda":
        other = name.removeprefix("paged_")
        other = "adamw" if other == "adamw_32bit" else other
        raise ConfigError(
            f"optimizer: {name!r} pages a GPU's memory, and the parameters are on {device.type!r}. Use "
            f"{other!r} there."
        )
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(
            f"optimizer: {name!r} is for the CPU and CUDA, the parameters are on {device.type}."
        )
    options: dict[str, Any] = {"lr": config.lr, "betas": (config.beta1, config.beta2)}
    if "lion" not in name:
        options["eps"] = config.eps
    made: Optimizer = getattr(bitsandbytes().optim, _CLASSES[name])(groups, **options)
    return made
