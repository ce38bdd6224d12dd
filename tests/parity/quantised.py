"""Hugging Face's model with bitsandbytes' linears, for comparison with ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from biject.families import family
from biject.model import Model
from biject.pretrained import load
from parity.harness import expert_slice, hf_name

METHODS = [("nf4", True), ("nf4", False), ("fp4", True), ("fp4", False), ("int8", None)]


def hf_quantised(
    folder: Path,
    ours: Model,
    method: str,
    double_quant: bool | None,
    *,
    dtype: torch.dtype = torch.float32,
    bfloat16_in_eval: bool = False,
    **options: Any,
) -> nn.Module:
    """HF's model; unless `bfloat16_in_eval` it computes in `bnb_4bit_compute_dtype` in eval mode as well,
    also on CPUs with AVX512-BF16.
    """
    import bitsandbytes
    import transformers

    settings: dict[str, Any] = {"load_in_8bit": True}
    if method != "int8":
        settings = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": method,
            "bnb_4bit_use_double_quant": double_quant,
        }
    known = family(ours.hf_config["model_type"])
    cls = getattr(transformers, known.heads[ours.head_name].hf_class)
    model = cls.from_pretrained(
        folder,
        attn_implementation=known.backend(ours.hf_config),
        quantization_config=transformers.BitsAndBytesConfig(**settings, **options),
        dtype=dtype,
    )
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit) and not bfloat16_in_eval:
            module.support_avx512bf16_for_cpu = False
    assert isinstance(model, nn.Module)
    return model.eval()


def quantised_pair(
    folder: Path, method: str, double_quant: bool | None, **options: Any
) -> tuple[Model, nn.Module]:
    """Ours and HF's, from one folder."""
    ours = load(folder, quantization=method, double_quant=double_quant, **options)
    return ours, hf_quantised(folder, ours, method, double_quant)


def hf_names(ours: Model, theirs: nn.Module) -> dict[str, str]:
    """HF's name in memory of each of our parameters, but for matrices that it stacks."""
    names = dict(theirs.named_parameters(remove_duplicate=False))
    prefix = ours.family.prefix_of(ours.head_name)
    return {
        b.memory: hf_name(b.disk[0], names, prefix, ours.family.in_memory)
        for b in ours.provenance.plan.bindings
        if expert_slice(b.disk[0], names) is None
    }
