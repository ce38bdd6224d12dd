"""How a frozen base's linears are held in 4 or 8 bits; no torch, no bitsandbytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from biject.config.patterns import check_pattern
from biject.errors import ConfigError, shown

Method = Literal["nf4", "fp4", "int8"]
METHODS: tuple[str, ...] = get_args(Method)
DTYPES = ("float32", "bfloat16", "float16")
"""What bitsandbytes quantises from and computes in."""


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """The settings of `transformers.BitsAndBytesConfig` that matter, under names of our own."""

    method: Method
    double_quant: bool = True
    """4-bit: the scales of the blocks are quantised as well (Dettmers et al. 2023, arXiv:2305.14314)."""
    compute_dtype: str = "float32"
    """4-bit: weights are dequantised to it, inputs are cast to it. int8 computes in its inputs' dtype."""
    skip_modules: tuple[str, ...] | None = None
    """What stays as it is; None for what `transformers` leaves out."""
    threshold: float = 6.0
    """int8: columns of inputs with a value beyond it are computed in 16 bits (arXiv:2208.07339)."""

    @property
    def four_bit(self) -> bool:
        """Codes of 4 bits in blocks of 64, against 8 bits with a scale a row."""
        return self.method != "int8"


def requested(
    quantization: str | None,
    *,
    double_quant: bool | None = None,
    compute_dtype: object = None,
    skip_modules: Sequence[str] | None = None,
) -> Quantization | None:
    """What the arguments of `from_pretrained` ask for; None where nothing is to be quantised.

    Raises:
        ConfigError: an unknown method or dtype, or settings that a method does not have.
    """
    given = {"double_quant": double_quant, "compute_dtype": compute_dtype, "skip_modules": skip_modules}
    if quantization is None:
        for name, value in given.items():
            if value is not None:
                raise ConfigError(f"{name} is for a quantised base: add quantization='nf4', or leave it out.")
        return None
    if quantization not in METHODS:
        raise ConfigError(f"quantization: expected one of {', '.join(METHODS)}, found {shown(quantization)}.")
    if quantization == "int8":
        for name in ("double_quant", "compute_dtype"):
            if given[name]:
                raise ConfigError(
                    f"{name} is for nf4 and fp4: int8 has one scale a row, and computes in its inputs' dtype."
                )
    if isinstance(skip_modules, str):
        raise ConfigError(f"skip_modules: expected a list of names, found {shown(skip_modules)}.")
    for name in skip_modules or ():
        if not isinstance(name, str):
            raise ConfigError(f"skip_modules: expected names, found {shown(name)}.")
        check_pattern(name, what="skip_modules")
    return Quantization(
        method=quantization,  # type: ignore[arg-type]  # checked above
        double_quant=quantization != "int8" and double_quant is not False,
        compute_dtype=_dtype_name(compute_dtype) if compute_dtype is not None else "float32",
        skip_modules=None if skip_modules is None else tuple(skip_modules),
    )


def agreed(stored: Quantization, given: Quantization | None, *, double_quant: object) -> Quantization:
    """The settings of a checkpoint that holds codes already; the caller may choose another compute dtype.

    Args:
        stored: the checkpoint's.
        given: what the caller requested, if anything.
        double_quant: the caller's word for it; None where there is none.

    Raises:
        ConfigError: the two contradict each other.
    """
    if given is None:
        return stored
    for name, own, other in (
        ("quantization", stored.method, given.method),
        ("double_quant", stored.double_quant, stored.double_quant if double_quant is None else double_quant),
        ("skip_modules", None, given.skip_modules),
    ):
        if own != other:
            raise ConfigError(
                f"{name}={other!r}: the checkpoint holds codes already, with {own!r}. Leave the argument "
                "out, or give the unquantised checkpoint."
            )
    return replace(stored, compute_dtype=given.compute_dtype)


def _dtype_name(dtype: object) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ConfigError(f"compute_dtype: expected one of {', '.join(DTYPES)}, found {shown(name)}.")
    return name


def is_skipped(name: str, patterns: Iterable[str]) -> bool:
    """Whether a module of this name stays unquantised: a pattern is its beginning up to a dot, a regular
    expression that matches there, or its end.

    Source: transformers 5.23, quantizers_utils.py (should_convert_module).
    """
    boundary = r"(?:(?<=\.)|(?=\.|$))"
    return any(re.match(rf"(?:{key}){boundary}", name) or name.endswith(key) for key in patterns)
