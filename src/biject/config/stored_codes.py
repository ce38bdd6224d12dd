"""Checkpoints that hold bitsandbytes' codes: what config.json says of them, which tensors belong together.

Source: transformers 5.23, quantizers/quantizer_bnb_4bit.py and quantizer_bnb_8bit.py (serialized_names).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from biject.config.quantization import DTYPES, METHODS, Quantization
from biject.errors import ConfigError, WeightsError, shown

STATE = "quant_state"
"""The role of the tensor whose bytes are JSON."""
_ROLES = {
    **{f".weight.{role}": role for role in ("absmax", "quant_map", "nested_absmax", "nested_quant_map")},
    **{f".weight.quant_state.bitsandbytes__{method}": STATE for method in ("nf4", "fp4")},
    ".SCB": "SCB",
    ".weight_format": "weight_format",
}


@dataclass(frozen=True, kw_only=True)
class StoredCodes:
    """How a checkpoint's linears are held in its files.

    Attributes:
        settings: As they were when it was written.
        parts: By the name of a matrix: the tensors beside it, by what they are.
    """

    settings: Quantization
    parts: Mapping[str, Mapping[str, str]]

    def others(self) -> set[str]:
        """All tensors that are no parameters."""
        return {name for parts in self.parts.values() for name in parts.values()}


def stored_codes(config: Mapping[str, Any], names: Collection[str], where: str) -> StoredCodes | None:
    """What of a checkpoint is codes; None where it is not quantised.

    Raises:
        ConfigError: another library's codes, or settings of bitsandbytes that are not computed.
        WeightsError: the file has no codes, though config.json says so.
    """
    found = config.get("quantization_config")
    if found is None:
        return None
    where = f"{where}: config.json, `quantization_config` is {shown(found)}"
    settings = _settings(found if isinstance(found, Mapping) else {}, where)
    parts: dict[str, dict[str, str]] = {}
    for name in names:
        for ending, role in _ROLES.items():
            if name.endswith(ending):
                parts.setdefault(f"{name.removesuffix(ending)}.weight", {})[role] = name
    lost = [weight for weight in parts if weight not in names]
    if lost or not parts:
        what = f"`{lost[0]}` has scales and no codes" if lost else "no tensor holds codes or scales"
        raise WeightsError(f"{where}, but {what}. Fetch the folder again, or remove the key.")
    return StoredCodes(settings=settings, parts=parts)


def _settings(found: Mapping[str, Any], where: str) -> Quantization:
    flags = ("load_in_4bit", "load_in_8bit")
    method = found.get("quant_method", "bitsandbytes" if any(map(found.get, flags)) else None)
    if method != "bitsandbytes":
        kind = shown(method) if isinstance(method, str) else "a method that it does not name"
        raise ConfigError(
            f"{where}: the weights are quantised by {kind}, which Biject does not compute. Use the "
            "unquantised checkpoint."
        )
    kind = found.get("bnb_4bit_quant_type", "fp4") if found.get("load_in_4bit") else "int8"
    dtype = found.get("bnb_4bit_compute_dtype") or "float32"
    threshold = found.get("llm_int8_threshold", 6.0)
    wrong = [
        key
        for key, fits in (
            ("bnb_4bit_quant_type", kind in METHODS),
            ("bnb_4bit_compute_dtype", dtype in DTYPES),
            ("bnb_4bit_quant_storage", found.get("bnb_4bit_quant_storage") in (None, "uint8")),
            ("llm_int8_has_fp16_weight", not found.get("llm_int8_has_fp16_weight")),
            ("llm_int8_threshold", isinstance(threshold, float | int) and 0 <= threshold < float("inf")),
        )
        if not fits
    ]
    if wrong:
        raise ConfigError(
            f"{where}: `{wrong[0]}` is {shown(found[wrong[0]])}, which Biject does not compute."
        )
    return Quantization(
        method=kind,  # type: ignore[arg-type]  # checked above
        double_quant=kind != "int8" and bool(found.get("bnb_4bit_use_double_quant", False)),
        compute_dtype=dtype,
        threshold=float(threshold),
    )
