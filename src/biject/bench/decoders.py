"""Decoding of one text against Hugging Face's `generate`, and the share of the memory's speed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from biject.bench.measure import Limits, Measured, Side, against_last, in_turns
from biject.bench.sides import models
from biject.model import Model
from biject.nn.native.laid_out import laid_out

FORMS: dict[str, dict[str, Any]] = {
    "exact": {},
    "fast": {"numerics": "fast"},
    "int8": {"quantization": "int8"},
    "int4": {"quantization": "int4"},
}
PROMPT, LONG_PROMPT = 16, 512


def decoder_cells(
    shape: str, dtype: str, *, forms: tuple[str, ...], new: int, repeats: int, limits: Limits
) -> Iterator[Measured]:
    """Tokens after a short prompt in each form, then a long prompt alone."""
    device = str(limits.device)
    with models(shape, getattr(torch, dtype), device=device) as ((ours,), theirs):
        draw = torch.Generator().manual_seed(0)
        ids = torch.randint(1000, 50000, (1, PROMPT), generator=draw).to(device)
        names: dict[str, Any] = {
            "model": shape,
            "dtype": dtype,
            "threads": torch.get_num_threads(),
            "peer": "generate",
        }
        limits.look(getattr(torch, dtype))
        sides = [*(continued(ours, ids, new, **FORMS[form]) for form in forms), continued(theirs, ids, new)]
        for form, pairs in zip(forms, against_last(in_turns(sides, repeats)), strict=True):
            found = Measured(name=f"decoding, {form}", seconds=pairs, **names)
            read = bytes_read(ours, form)
            if read is not None:
                found.more["bytes_per_second"] = read / _seconds_later(ours, ids, new, FORMS[form])
            yield found
        text = torch.randint(1000, 50000, (1, LONG_PROMPT), generator=draw).to(device)
        prompted = [form for form in forms if form in ("exact", "fast")]
        sides = [*(continued(ours, text, 1, **FORMS[form]) for form in prompted), continued(theirs, text, 1)]
        for form, pairs in zip(prompted, against_last(in_turns(sides, repeats)), strict=True):
            yield Measured(name=f"prompt of {LONG_PROMPT}, {form}", seconds=pairs, **names)


def continued(model: Any, ids: Tensor, new: int, **arguments: Any) -> Side:
    """`new` tokens, whatever they are."""
    mask = torch.ones_like(ids)

    def run() -> int:
        model.generate(ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, **arguments)
        return new

    return run


def bytes_read(model: Model, form: str) -> int | None:
    """What a step reads of weights; None where torch computes it."""
    if form == "exact":
        return None
    found = laid_out(model, None if form == "fast" else form)  # type: ignore[arg-type]
    return None if isinstance(found, str) else found.num_bytes


def _seconds_later(model: Model, ids: Tensor, new: int, arguments: dict[str, Any]) -> float:
    """For a token after the prompt's: what `new` take beyond one."""
    found = []
    for _ in range(3):
        taken = []
        for count in (1, new):
            started = time.perf_counter()
            continued(model, ids, count, **arguments)()
            taken.append(time.perf_counter() - started)
        found.append((taken[1] - taken[0]) / (new - 1))
    return statistics.median(found)
