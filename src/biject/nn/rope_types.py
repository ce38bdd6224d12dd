"""The frequencies of rotary positions, by type of scaling.

Source of every formula and of the order of operations: transformers 5.23, modeling_rope_utils.py. Each
function gives the frequencies, (E / 2,) in float32, and the factor for cosines and sines.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from biject.config.rope import RopeConfig

Frequencies = tuple[Tensor, float]


def frequencies(rope: RopeConfig, *, long: bool = False) -> Frequencies:
    """What holds for texts within the trained length; with `long`, beyond `longrope`'s original one."""
    if rope.type == "longrope":
        return _longrope(rope, rope.long_factor if long else rope.short_factor)
    return _TABLE[rope.type](rope)


def dynamic_frequencies(rope: RopeConfig, length: Tensor) -> Tensor:
    """`dynamic` for a text longer than the trained length: a base that grows with it (NTK scaling)."""
    assert rope.factor is not None
    most = torch.maximum(
        length, torch.tensor(rope.max_position_embeddings, dtype=length.dtype, device=length.device)
    )
    grown = (rope.factor * most / rope.max_position_embeddings) - (rope.factor - 1)
    base = rope.theta * grown ** (rope.head_dim / (rope.head_dim - 2))
    return 1.0 / (base ** _exponents(rope.head_dim).to(length.device))


def _exponents(width: int) -> Tensor:
    """0, 2/E, 4/E, …"""
    return torch.arange(0, width, 2, dtype=torch.int64, device="cpu").to(torch.float) / width


def _default(rope: RopeConfig) -> Frequencies:
    return 1.0 / (rope.theta ** _exponents(rope.head_dim)), 1.0


def _linear(rope: RopeConfig) -> Frequencies:
    assert rope.factor is not None
    return _default(rope)[0] / rope.factor, 1.0


def _dynamic(rope: RopeConfig) -> Frequencies:
    assert rope.factor is not None
    length = rope.max_position_embeddings
    grown = (rope.factor * length / rope.max_position_embeddings) - (rope.factor - 1)
    base = rope.theta * grown ** (rope.head_dim / (rope.head_dim - 2))
    return 1.0 / (base ** _exponents(rope.head_dim)), 1.0


def _proportional(rope: RopeConfig) -> Frequencies:
    """Only a part of the head turns; the rest has frequency 0."""
    rotated = int(rope.proportion * rope.head_dim // 2)
    steps = torch.arange(0, 2 * rotated, 2, dtype=torch.int64, device="cpu").to(torch.float) / rope.head_dim
    still = torch.zeros(rope.head_dim // 2 - rotated, dtype=torch.float32, device="cpu")
    return torch.cat((1.0 / (rope.theta**steps), still)) / (1.0 if rope.factor is None else rope.factor), 1.0


def _longrope(rope: RopeConfig, factors: tuple[float, ...]) -> Frequencies:
    """Ding et al. 2024, arXiv:2402.13753: a factor for every frequency."""
    original = rope.original_max_position_embeddings
    assert original is not None
    factor = rope.max_position_embeddings / original if rope.factor is None else rope.factor
    scale = rope.attention_factor
    if scale is None:
        scale = 1.0 if factor <= 1.0 else math.sqrt(1 + math.log(factor) / math.log(original))
    extended = torch.tensor(factors, dtype=torch.float32, device="cpu")
    return 1.0 / (extended * rope.theta ** _exponents(rope.head_dim)), scale


def _by_wavelength(rope: RopeConfig) -> Frequencies:
    """Long waves are stretched, short ones kept, those between interpolated."""
    low, high, original = rope.low_freq_factor, rope.high_freq_factor, rope.original_max_position_embeddings
    assert rope.factor is not None
    assert low is not None
    assert high is not None
    assert original is not None
    plain, _ = _default(rope)
    wave = 2 * math.pi / plain
    stretched = torch.where(wave > original / low, plain / rope.factor, plain)
    smooth = (original / wave - low) / (high - low)
    between = (1 - smooth) * stretched / rope.factor + smooth * stretched
    medium = ~(wave < original / high) * ~(wave > original / low)
    return torch.where(medium, between, stretched), 1.0


def _yarn(rope: RopeConfig) -> Frequencies:
    """Peng et al. 2023, arXiv:2309.00071: from stretched to plain frequencies along a ramp."""
    original, width = rope.original_max_position_embeddings, rope.head_dim
    assert original is not None
    factor = rope.max_position_embeddings / original if rope.factor is None else rope.factor
    powers = rope.theta ** (torch.arange(0, width, 2, device="cpu").to(torch.float) / width)
    plain, stretched = 1.0 / powers, 1.0 / (factor * powers)
    low = _rotations(rope.beta_fast or 32, rope, original)
    high = _rotations(rope.beta_slow or 1, rope, original)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    high += 0.001 if low == high else 0
    ramp = torch.clamp(
        (torch.arange(width // 2, dtype=torch.float32, device="cpu") - low) / (high - low), 0, 1
    )
    kept = 1 - ramp
    return stretched * (1 - kept) + plain * kept, _yarn_scale(rope, factor)


def _rotations(count: float, rope: RopeConfig, original: int) -> float:
    """The index of the frequency that turns `count` times over the original length."""
    return (rope.head_dim * math.log(original / (count * 2 * math.pi))) / (2 * math.log(rope.theta))


def _yarn_scale(rope: RopeConfig, factor: float) -> float:
    def scale(strength: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * strength * math.log(factor) + 1.0

    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.mscale and rope.mscale_all_dim:
        return float(scale(rope.mscale) / scale(rope.mscale_all_dim))
    return scale(1)


_TABLE: dict[str, Callable[[RopeConfig], Frequencies]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "by-wavelength": _by_wavelength,
    "proportional": _proportional,
}
