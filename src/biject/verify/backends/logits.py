"""Tiers `lora` and `qlora`: logits of small models with an adapter, against PEFT on transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from biject.config.adapter import LoraConfig
from biject.families import family
from biject.nn.addresses import align
from biject.nn.quantised import bitsandbytes
from biject.pretrained import PretrainedModel, load
from biject.verify.backends.common import library
from biject.verify.hf import quiet
from biject.verify.inputs import probe_cases
from biject.verify.outputs import compare_outputs, run
from biject.verify.reference import make_reference
from biject.verify.report import Check

LORA_MODELS = (("bert", "seqcls"), ("modernbert", "mlm"), ("gpt2", "causal"), ("llama", "causal"))
QLORA_MODELS = (("bert", "tokcls"), ("llama", "causal"), ("qwen3", "causal"))
SKIPPED = ("classifier",)
"""A head that is trained is not quantised."""
CASES = 3
WIDE = {"hidden_size": 64, "intermediate_size": 128}
"""4-bit codes come in blocks of 64."""


def lora_logits(folder: Path) -> list[Check]:
    """Every value of a random adapter counts: neither of its matrices is zero.

    Raises:
        MissingExtraError: transformers or PEFT is not installed.
    """
    return [one for name, head in LORA_MODELS for one in _compared(folder, name, head, None)]


def qlora_logits(folder: Path) -> list[Check]:
    """The same on a base in nf4.

    Raises:
        MissingExtraError: transformers, PEFT or bitsandbytes is not installed.
    """
    bitsandbytes()
    return [one for name, head in QLORA_MODELS for one in _compared(folder, name, head, "nf4")]


def _compared(folder: Path, name: str, head: str, quantization: str | None) -> list[Check]:
    peft = library("peft", "peft")
    home = folder / f"{name}-{head}"
    with quiet():
        make_reference(name, head, home / "model", overrides=WIDE if quantization else None)
        skip = SKIPPED if quantization and head == "tokcls" else None
        ours = load(home / "model", quantization=quantization, skip_modules=skip)
        torch.manual_seed(0)
        ours.add_adapter(LoraConfig(r=4, lora_alpha=16, init_lora_weights=False))
        ours.save_adapter(home / "adapter")
        base = _theirs(home / "model", ours, quantization)
        theirs = peft.PeftModel.from_pretrained(base, home / "adapter")
    align(ours)
    align(theirs)
    ours.eval(), theirs.eval()
    inner = theirs.base_model.model  # PEFT's wrappers for some heads lose arguments on the way
    checks = []
    for case in probe_cases(ours.hf_config, max_length=32)[:CASES]:
        ours.planner.layout = "padded"
        found = compare_outputs(run(ours, case.inputs), run(inner, case.inputs), case=f"{name}, {case.name}")
        checks += [one for one in found if one.name.startswith("logits")]
    return checks


def _theirs(folder: Path, ours: PretrainedModel, quantization: str | None) -> nn.Module:
    """HF's model, in nf4 where ours is; 4-bit linears compute in float32 in eval mode as well."""
    import transformers

    known = family(ours.hf_config["model_type"])
    options: dict[str, Any] = {"attn_implementation": known.backend(ours.hf_config), "dtype": torch.float32}
    if quantization:
        options["quantization_config"] = transformers.BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type=quantization,
            bnb_4bit_use_double_quant=True,
            llm_int8_skip_modules=list(SKIPPED) if ours.head_name == "tokcls" else None,
        )
    model: nn.Module = getattr(transformers, known.heads[ours.head_name].hf_class).from_pretrained(
        folder, **options
    )
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            vars(module)["support_avx512bf16_for_cpu"] = False
    return model.eval()
