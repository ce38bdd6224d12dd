"""Hugging Face's model for a head, with PEFT's adapter if wanted: the other side of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biject.config.adapter import TASK_TYPES, LoraConfig
from biject.errors import MissingExtraError
from biject.families import Family
from biject.verify.hf import quiet

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to build.

    Attributes:
        folder: The checkpoint.
        family: Its family.
        head: The task's.
        labels: Names of a new head's outputs; none for the checkpoint's own head.
        problem_type: Of a new text classifier.
        adapter: PEFT's settings; None to train every parameter.
        quantization: `nf4`, `fp4` or `int8`, or None.
        double_quant: Scales are quantised as well.
        compute_dtype: Of 4-bit products.
    """

    folder: Path
    family: Family
    head: str
    labels: Sequence[str] = ()
    problem_type: str | None = None
    adapter: LoraConfig | None = None
    quantization: str | None = None
    double_quant: bool = True
    compute_dtype: str = "float32"


def peft_model(wanted: Wanted) -> nn.Module:
    """In float32, on the CPU, as a user of transformers and PEFT makes it.

    Raises:
        MissingExtraError: transformers or PEFT is not installed.
    """
    with quiet():
        import torch
        import transformers

        options: dict[str, Any] = {}
        if wanted.labels:
            options["id2label"] = dict(enumerate(wanted.labels))
            options["label2id"] = {name: i for i, name in enumerate(wanted.labels)}
        if wanted.problem_type is not None:
            options["problem_type"] = wanted.problem_type
        if wanted.quantization is not None:
            options["quantization_config"] = _quantized(wanted)
        kind = getattr(transformers, wanted.family.heads[wanted.head].hf_class)
        model: nn.Module = kind.from_pretrained(
            wanted.folder,
            dtype=torch.float32,
            attn_implementation=wanted.family.attention,
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
        return model if wanted.adapter is None else _adapted(model, wanted.adapter, wanted.head)


def _quantized(wanted: Wanted) -> Any:
    import transformers

    if wanted.quantization == "int8":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return transformers.BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=wanted.quantization,
        bnb_4bit_use_double_quant=wanted.double_quant,
        bnb_4bit_compute_dtype=wanted.compute_dtype,
    )


def _adapted(model: nn.Module, adapter: LoraConfig, head: str) -> nn.Module:
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError(
            "A comparison with PEFT needs it, and it is not installed: pip install peft."
        ) from error
    values = {name: value for name, value in adapter.to_peft().items() if name != "peft_type"}
    settings = peft.LoraConfig(task_type=TASK_TYPES.get(head), **values)
    found: nn.Module = peft.get_peft_model(model, settings)
    return found
