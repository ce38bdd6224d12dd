"""Words for tensors that are missing or foreign: which parameter, which name, the nearest relative,
what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from biject.errors import WeightsError

_WRAPPERS = ("module.", "_orig_mod.", "base_model.model.", "model.")

_COMPARED, _LENGTH = 2000, 300  # how many names, of what length, are compared: it takes time

_FOREIGN = {
    ".lora_A.": "LoRA adapter weights; merge them into the base first",
    ".lora_B.": "LoRA adapter weights; merge them into the base first",
    ".base_layer.": "weights wrapped by an adapter library; merge and unload first",
    ".qweight": "GPTQ or AWQ quantised weights; use the unquantised checkpoint",
    ".qzeros": "GPTQ or AWQ quantised weights; use the unquantised checkpoint",
    ".SCB": "8-bit bitsandbytes weights; use the unquantised checkpoint",
    ".absmax": "4-bit bitsandbytes weights; use the unquantised checkpoint",
    ".quant_map": "4-bit bitsandbytes weights; use the unquantised checkpoint",
    ".parametrizations.": "parametrised weights; remove the parametrisations before saving",
}


def refuse_foreign(names: Collection[str], where: str) -> None:
    """Raise if a name shows maths that is not computed: adapters, quantisation, parametrisations."""
    every = ".\n".join(names) + "."
    found = {mark: meaning for mark, meaning in _FOREIGN.items() if mark in every}
    for name in names if found else ():
        for mark, meaning in found.items():
            if mark in f"{name}.":
                raise WeightsError(f"{where} holds `{name}`: {meaning}.")


def nearest(name: str, candidates: Sequence[str]) -> str | None:
    """The candidate most like `name`, or None if none is alike."""
    candidates = [c for c in candidates[:_COMPARED] if len(c) <= _LENGTH]
    tail = name.split(".")[-2:]
    alike = [c for c in candidates if c.split(".")[-2:] == tail] or list(candidates)
    found = difflib.get_close_matches(name, alike, n=1, cutoff=0.5) or difflib.get_close_matches(
        name, candidates, n=1, cutoff=0.5
    )
    return found[0] if found else None


def missing_message(needed: Sequence[tuple[str, str]], unused: Sequence[str], where: str) -> str:
    """One message for all missing tensors; at most eight are spelt out."""
    lines = []
    for memory, disk in needed[:8]:
        near = nearest(disk, unused)
        hint = f" (nearest unused: `{near}`)" if near else ""
        lines.append(f"`{memory}` needs `{disk}`{hint}")
    more = f"; and {len(needed) - 8} more" if len(needed) > 8 else ""
    text = f"{where} lacks {len(needed)} tensor(s): " + "; ".join(lines) + more + "."
    wrapper = _wrapper(needed, unused)
    if wrapper:
        return text + f" Its names carry a wrapper's prefix `{wrapper}`: save the unwrapped model."
    if all(memory.startswith("head.") for memory, _ in needed):
        text += " Ask for a head that the file has, or for a new, randomly initialised one (new_head)."
    return text


def _wrapper(needed: Sequence[tuple[str, str]], unused: Sequence[str]) -> str | None:
    names = set(unused)
    for wrapper in _WRAPPERS:
        if sum(wrapper + disk in names for _, disk in needed) > len(needed) / 2:
            return wrapper
    return None
