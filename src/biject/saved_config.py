"""config.json of what is saved: the source's bytes, or its keys with those set that changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from biject.checkpoint.bytes import DTYPES
from biject.checkpoint.named_dtype import dtype_to_name
from biject.checkpoint.source import NAMED
from biject.model import Model

ABSENT = object()
"""Of a key that a config does not have; None is a value."""


def architecture_of(model: Model) -> str:
    """The class that the export's config names."""
    provenance = model.provenance
    if provenance.architecture is not None and provenance.keeps_head:
        return provenance.architecture
    return model.family.heads[model.head_name].hf_class


def config_bytes(
    model: Model, tensors: Mapping[str, torch.Tensor], *, relaid: bool
) -> tuple[bytes, list[str]]:
    """config.json: its bytes if nothing changed, else with the changed keys set; and a line for each."""
    source = model.source
    changes: dict[str, Any] = {}
    if model.provenance.architecture != architecture_of(model):
        changes["architectures"] = [architecture_of(model)]
    plan = model.provenance.plan
    dtype = dtype_to_name(
        source.config,
        {plan.written(name): DTYPES[info.dtype] for name, info in source.tensors.items()},
        {name: tensor.dtype for name, tensor in tensors.items()},
        bound={plan.written(name) for one in (*plan.bindings, *plan.initialized) for name in one.disk},
    )
    if dtype is not None:
        key = "torch_dtype" if "torch_dtype" in source.config and "dtype" not in source.config else "dtype"
        changes[key] = str(dtype).removeprefix("torch.")
    if relaid and NAMED in source.config:
        changes[NAMED] = None
    ids = ("bos_token_id", "eos_token_id", "pad_token_id")
    for key in ("model_type", "id2label", "label2id", "problem_type", "num_labels", "vocab_size", *ids):
        if model.hf_config.get(key) != source.config.get(key):
            changes[key] = model.hf_config.get(key)
    if not model.provenance.keeps_head and model.head_name == "mlm" and "legacy" in model.resolved_config:
        changes |= {"legacy": model.resolved_config["legacy"]} if not model.resolved_config["legacy"] else {}
    changes = {key: value for key, value in changes.items() if source.config.get(key, ABSENT) != value}
    if not changes:
        return source.config_bytes, []
    patched = {
        key: value for key, value in {**source.config, **changes}.items() if key not in _dropped(changes)
    }
    lines = [
        f"config.json: {key} = {json.dumps(value, ensure_ascii=False)}" for key, value in changes.items()
    ]
    return dump_like(patched, source.config_bytes), lines


def _dropped(changes: Mapping[str, Any]) -> set[str]:
    """Keys that a change removes (`num_labels` beside a new `id2label`)."""
    return {
        key
        for key in ("num_labels", "id2label", "label2id", NAMED)
        if key in changes and changes[key] is None
    }


def dump_like(config: Mapping[str, Any], original: bytes) -> bytes:
    """JSON in the style of the original: indented or compact, ASCII or not, with or without a last
    newline.
    """
    text = original.decode("utf-8")
    lines = text.splitlines()
    indent = len(lines[1]) - len(lines[1].lstrip()) if len(lines) > 1 else None
    separators = (",", ":") if indent is None and '": ' not in text else None
    dumped = json.dumps(config, indent=indent, separators=separators, ensure_ascii=text.isascii())
    return (dumped + ("\n" if text.endswith("\n") else "")).encode("utf-8")
