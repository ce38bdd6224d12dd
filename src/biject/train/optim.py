"""Which parameters train, how fast, and torch's optimizer and schedule for them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from biject.config.recipe import TrainConfig
from biject.errors import ConfigError
from biject.train import few_bits
from biject.train.names import depth_of, fitting, layer_of


def freeze(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Stop gradients for parameters called `names`, or whose names begin with one of them and a dot; ours,
    Hugging Face's, or a pattern.

    Returns:
        The names of the frozen parameters.

    Raises:
        ConfigError: one of `names` fits no parameter.
    """
    frozen = fitting(model, names, setting="freeze")
    chosen = set(frozen)
    for name, parameter in model.named_parameters():
        if name in chosen:
            parameter.requires_grad_(False)
    return frozen


def no_decay_names(model: nn.Module) -> set[str]:
    """Biases and everything in a norm: by the module's kind, so that it works for any model."""
    norms = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    found = {name for name, _ in model.named_parameters() if name.rsplit(".", 1)[-1] == "bias"}
    for module_name, module in model.named_modules():
        if isinstance(module, norms) or type(module).__name__.endswith(("LayerNorm", "RMSNorm")):
            found |= {
                f"{module_name}.{name}".lstrip(".") for name, _ in module.named_parameters(recurse=False)
            }
    return found


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, object]]:
    """Groups for an optimizer: by decay and, where requested, by depth. Frozen parameters are in none.

    Raises:
        ConfigError: nothing is left to train, or depth was requested and the model has no `layers.0`.
    """
    plain = no_decay_names(model)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise ConfigError("Every parameter is frozen; there is nothing to train.")
    layers = {layer for name, _ in model.named_parameters() if (layer := layer_of(name)) is not None}
    if config.layer_decay != 1.0 and not layers:
        raise ConfigError(
            "layer_decay needs a model with parameters called `layers.0.…`, `encoder.layer.0.…` or the like."
        )
    top = max(layers, default=-1) + 2
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        decay = 0.0 if name in plain else config.weight_decay
        steps_down = top - depth_of(name, top - 1) if layers else 0
        groups.setdefault((decay, config.lr * config.layer_decay**steps_down), []).append(parameter)
    return [{"params": ps, "weight_decay": decay, "lr": lr} for (decay, lr), ps in groups.items()]


def make_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """The optimizer of the config's name over its groups, by default torch's fused AdamW.

    Raises:
        ConfigError: nothing is left to train, or the parameters' device has no such optimizer.
        MissingExtraError: it needs bitsandbytes.
    """
    groups = parameter_groups(model, config)
    if config.optimizer in few_bits.NAMES:
        return few_bits.make(config, groups)
    name, options = _OPTIMIZERS[config.optimizer]
    values: dict[str, object] = {
        "lr": config.lr,
        "betas": (config.beta1, config.beta2),
        "eps": config.eps,
        "momentum": config.momentum,
    }
    made = getattr(torch.optim, name)
    given = {key: values[key] for key in ("lr", *options) if key in values}
    optimizer: Optimizer = made(groups, **given, **_EXTRA.get(config.optimizer, {}))
    return optimizer


_MOMENTS = ("betas", "eps")
_OPTIMIZERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "adamw": ("AdamW", _MOMENTS),
    "adamw_torch": ("AdamW", _MOMENTS),
    "adamw_torch_fused": ("AdamW", _MOMENTS),
    "adafactor": ("Adafactor", ()),
    "adam": ("Adam", _MOMENTS),
    "adagrad": ("Adagrad", ("eps",)),
    "nadam": ("NAdam", _MOMENTS),
    "radam": ("RAdam", _MOMENTS),
    "rmsprop": ("RMSprop", ("eps", "momentum")),
    "sgd": ("SGD", ("momentum",)),
}
"""The class in torch.optim, and which of the config's values it takes besides the rate."""
_EXTRA = {"adamw": {"fused": True}, "adamw_torch_fused": {"fused": True}}


def first_moment(optimizer: Optimizer) -> float | None:
    """How much of the mean gradient an optimizer keeps at each step, where its steps do not grow with the
    gradient, as Adam's and Lion's; None where they do, as SGD's.
    """
    group = optimizer.param_groups[0]
    if "betas" in group:
        return float(group["betas"][0])
    divides = isinstance(optimizer, torch.optim.RMSprop | torch.optim.Adagrad | torch.optim.Adafactor)
    return float(group.get("momentum", 0.0)) if divides else None


def make_schedule(optimizer: Optimizer, config: TrainConfig, total_steps: int) -> LambdaLR:
    """Linear warm-up, then linear or cosine decay to 0 at `total_steps`, or constant."""
    warmup = config.warmup if config.warmup >= 1 else math.ceil(config.warmup * total_steps)
    return LambdaLR(optimizer, lambda step: learning_rate_factor(step, config.schedule, warmup, total_steps))


def learning_rate_factor(step: int, schedule: str, warmup: float, total_steps: int) -> float:
    """The learning rate at a step, relative to its peak.

    To the bit what transformers' `get_linear_…`, `get_cosine_…` and `get_constant_schedule_with_warmup` give.
    """
    if step < warmup:
        return step / max(1.0, warmup)
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return max(0.0, (total_steps - step) / max(1.0, total_steps - warmup))
    progress = (step - warmup) / max(1.0, total_steps - warmup)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress))))
