"""Run PEFT: an adapter's folder on Hugging Face's base, nothing of the folder but settings and tensors."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biject.adapters.names import module_names
from biject.checkpoint.adapter import CONFIG, OLD_WEIGHTS, WEIGHTS, Stored, newest_name
from biject.checkpoint.source import Source
from biject.model import Model
from biject.nn.addresses import align
from biject.nn.lora import is_linear
from biject.nn.quantised import QuantisedLinear, hush
from biject.verify.claims import check_claims
from biject.verify.hf import HFModel, load_hf, quiet

_NOT_STAGED = ("auto_mapping", "base_model_name_or_path", "megatron_core", "revision", "runtime_config")
"""Keys that say nothing of the maths and that name code or places to look."""


def unavailable() -> str | None:
    """Why PEFT cannot be asked, or None."""
    gone = [name for name in ("transformers", "peft") if find_spec(name) is None]
    return f"{' and '.join(gone)} not installed: pip install 'biject[verify]' peft" if gone else None


@dataclass(frozen=True, kw_only=True)
class PeftModel:
    """PEFT's model of an adapter.

    Attributes:
        inner: Hugging Face's model with the adapter in it.
        base: How it was loaded, before the adapter.
        tensors: What PEFT holds of the adapter, by its newest names.
        missing: Names that PEFT has parameters for and the file does not.
        unexpected: Names in the file that PEFT has no parameters for.
        random: Parameters that neither the base's file nor the adapter's has.
    """

    inner: nn.Module
    base: HFModel
    tensors: Mapping[str, Tensor]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    random: tuple[str, ...]


def load_peft(stored: Stored, base: Source, ours: Model) -> PeftModel:
    """Have transformers load the base and PEFT the adapter, on the CPU, in eval mode.

    Args:
        stored: The adapter, which Biject has loaded before (its sizes and patterns are those of `ours`).
        base: The base's folder.
        ours: Biject's model: says the head, its labels, the dtype and how linears are held.

    Raises:
        ConfigError: The base's config claims what its file does not have.
    """
    hush()
    import peft

    check_claims(base)
    loaded = load_hf(
        base,
        class_name=ours.family.require_head(ours.head_name).hf_class,
        dtype=_dtype(ours),
        attention=ours.family.backend(base.config),
        overrides={**_head_values(ours), **_quantised(ours)},
    )
    with quiet(), _staged(stored) as folder:
        model: Any = peft.PeftModel.from_pretrained(loaded.model, folder, torch_device="cpu")
        result = model.load_adapter(folder, "default", torch_device="cpu")
        known = stored.tensors()
        tables = any(name.endswith(".base_layer.weight") for name in known)
        state = peft.get_peft_model_state_dict(model, save_embedding_layers=tables)
    model.eval()
    _exact(model)
    align(model)
    tensors = {newest_name(name): value.detach() for name, value in state.items()}
    missing = {newest_name(name) for name in result.missing_keys} | (set(tensors) - set(known))
    unexpected = {newest_name(name) for name in result.unexpected_keys} | (set(known) - set(tensors))
    return PeftModel(
        inner=model.base_model.model,
        base=loaded,
        tensors=tensors,
        missing=tuple(sorted(missing)),
        unexpected=tuple(sorted(unexpected)),
        random=tuple(sorted(set(loaded.missing) - set(known))),
    )


@contextlib.contextmanager
def _staged(stored: Stored) -> Iterator[str]:
    """A folder with the adapter's settings and its tensors."""
    values = {key: value for key, value in stored.values.items() if key not in _NOT_STAGED}
    weights = WEIGHTS if (stored.folder / WEIGHTS).is_file() else OLD_WEIGHTS
    with tempfile.TemporaryDirectory(prefix="biject-verify-") as temporary:
        (Path(temporary) / CONFIG).write_text(json.dumps(values), encoding="utf-8")
        (Path(temporary) / weights).symlink_to((stored.folder / weights).resolve())
        yield temporary


def _dtype(ours: Model) -> torch.dtype:
    """Of the base's floating parameters."""
    adapted = {id(p) for name, p in ours.named_parameters() if ".lora." in name}
    return next(p.dtype for p in ours.parameters() if p.is_floating_point() and id(p) not in adapted)


def _head_values(ours: Model) -> dict[str, Any]:
    """What of the head the base's config.json does not say."""
    found: dict[str, Any] = {}
    if "legacy" in ours.resolved_config:
        found["legacy"] = ours.resolved_config["legacy"]
    if ours.head_name in ("seqcls", "tokcls", "imgcls", "distilled"):
        names = ours.id2label
        found |= {"id2label": names, "label2id": {name: index for index, name in names.items()}}
        if ours.hf_config.get("problem_type") is not None:
            found["problem_type"] = ours.hf_config["problem_type"]
    return found


def _quantised(ours: Model) -> dict[str, Any]:
    """How its linears are held, in bitsandbytes' words."""
    settings = ours.quantization
    if settings is None:
        return {}
    from transformers import BitsAndBytesConfig

    modules = {name: ours.get_submodule(memory) for name, memory in module_names(ours).items()}
    whole = [name for name, one in modules.items() if is_linear(one) and not isinstance(one, QuantisedLinear)]
    skipped = whole or None  # the names exactly; else what transformers leaves out
    if settings.method == "int8":
        values: dict[str, Any] = {"load_in_8bit": True}
    else:
        values = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": settings.method,
            "bnb_4bit_use_double_quant": settings.double_quant,
            "bnb_4bit_compute_dtype": getattr(torch, settings.compute_dtype),
        }
    return {"quantization_config": BitsAndBytesConfig(**values, llm_int8_skip_modules=skipped)}  # type: ignore[no-untyped-call]


def _exact(model: nn.Module) -> None:
    """Have bitsandbytes compute in the dtype that was asked for in eval mode, too."""
    module: Any
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
