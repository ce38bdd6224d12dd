"""Adapters by PEFT: added, written, read and filled, in PEFT's own files."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from biject.adapters.fit import trains_head
from biject.adapters.load import check_ranks
from biject.checkpoint.adapter import CONFIG, RECORD, WEIGHTS, Stored, read_adapter
from biject.checkpoint.content import Content
from biject.checkpoint.fingerprint import weights_fingerprint
from biject.checkpoint.writer import Seal, Written, check_apart, write_files
from biject.config.adapter import ALL_LINEAR, TASK_TYPES, LoraConfig
from biject.errors import CheckpointError, ConfigError, WeightsError, shown
from biject.events import notice
from biject.fallback.body import FallbackBody
from biject.fallback.library import peft, quiet

NAME = "default"


def add_adapter(model: FallbackBody, config: LoraConfig, *, stored: Stored | None = None) -> None:
    """Give the model PEFT's adapter: only its parameters, the head's and what is new train then.

    Args:
        model: What to change.
        config: Settings.
        stored: The folder that it is filled from; one without the head of its own leaves that frozen.

    Raises:
        ConfigError: There is one already, or the settings fit no module.
        MissingExtraError: PEFT is not installed.
    """
    if model.adapters is not None:
        raise ConfigError("The model has an adapter already: merge_adapter() first.")
    library = peft()
    values = {name: value for name, value in config.to_peft().items() if name != "peft_type"}
    known = library.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    if values.get("target_modules") is None and model.hf.config.model_type not in known:
        notice(
            "all-linear",
            f"PEFT has no targets of its own for `{model.hf.config.model_type}`: every linear but the head "
            "is adapted (all-linear).",
        )
        values["target_modules"] = ALL_LINEAR
    task, head = TASK_TYPES.get(model.head_name), _head(model)
    if stored is not None and head and not trains_head(stored, task, head):
        task, head = None, []
    whole = [*config.modules_to_save, *head, *_tops(model, model.fresh)]
    values["modules_to_save"] = list(dict.fromkeys(whole)) or None
    settings = library.LoraConfig(task_type=task, **values)
    with quiet("PEFT cannot add the adapter"):
        model.hf = library.get_peft_model(model.hf, settings)
    model.adapters = (NAME,)


def _head(model: FallbackBody) -> list[str]:
    """The head's modules, which are trained whole and stored."""
    own = () if model.head_name in ("base", "mlm", "causal") else model.identity.head_tensors
    return _tops(model, sorted(own))


def _tops(model: FallbackBody, names: Iterable[str]) -> list[str]:
    """The outermost modules that tensors are in, beside or inside of the base model."""
    prefix = f"{getattr(model.identity.kind, 'base_model_prefix', '')}."
    return [name.removeprefix(prefix).partition(".")[0] for name in names]


def save_adapter(
    model: FallbackBody,
    folder: Path,
    *,
    force: bool = False,
    extra: Mapping[str, Content] | None = None,
    seal: Seal | None = None,
) -> Written:
    """Write the adapter: settings and tensors are the bytes that PEFT writes, beside Biject's record.

    Raises:
        ConfigError: There is none.
        CheckpointError: The folder has the base in it, or cannot be written; everything is as it was.
    """
    if model.adapters is None:
        raise ConfigError("The model has no adapter: add_adapter(LoraConfig(…)) gives it one.")
    check_apart(folder, model.source.folder, inside=True)
    with tempfile.TemporaryDirectory(prefix="biject-") as temporary:
        with quiet("PEFT cannot write the adapter"):
            model.hf.save_pretrained(temporary, save_embedding_layers=False)
        made = {name: (Path(temporary) / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    classifies = model.head_name in ("seqcls", "tokcls", "imgcls")
    record = {
        "backend": "hf",
        "head": model.head_name,
        "labels": list(model.id2label.values()) if classifies else None,
        "problem_type": model.hf_config.get("problem_type"),
        "base_fingerprint": weights_fingerprint(model.source),
        "quantization": None,
        "tensors_sha256": hashlib.sha256(made[WEIGHTS]).hexdigest(),
    }
    files: dict[str, Content] = {
        **made,
        RECORD: (json.dumps({"adapter": record}, indent=2, ensure_ascii=False) + "\n").encode(),
        **(extra or {}),
    }
    return write_files(folder, files, force=force, seal=seal)


def load_adapter(model: FallbackBody, stored: Stored) -> None:
    """Add the adapter of a folder, for computing only.

    Raises:
        ConfigError, WeightsError: It is of another base or head.
    """
    print_of = stored.record.get("base_fingerprint")
    if isinstance(print_of, str) and print_of != weights_fingerprint(model.source):
        raise ConfigError(
            f"{stored.folder}: the adapter was trained on a base whose weights are others than those of "
            f"{model.source.folder}. Give the base that it belongs to."
        )
    if stored.head is not None and stored.head != model.head_name:
        raise ConfigError(
            f"{stored.folder}: the adapter is for the head {shown(stored.head)}, the model has "
            f"{model.head_name!r}."
        )
    check_ranks(stored, stored.tensors())
    add_adapter(model, stored.config, stored=stored)
    _fill(model, stored)
    model.requires_grad_(False)


def refill(model: FallbackBody, folder: Path) -> None:
    """Put a folder's values into the model's adapter, in place.

    Raises:
        CheckpointError, WeightsError: It is damaged, or of another adapter.
    """
    _fill(model, read_adapter(folder))


def _fill(model: FallbackBody, stored: Stored) -> None:
    library = peft()
    found = stored.tensors()
    with quiet("PEFT cannot name the adapter's tensors"):
        own: Mapping[str, Any] = library.get_peft_model_state_dict(model.hf, save_embedding_layers=False)
    prefix = "base_model.model."
    wanted = {name.removeprefix(prefix): tuple(tensor.shape) for name, tensor in own.items()}
    given = {name: tuple(tensor.shape) for name, tensor in found.items()}
    if wanted != given:
        strange = sorted(set(wanted.items()) ^ set(given.items()))
        raise WeightsError(
            f"{stored.folder}: the adapter does not fit this model: `{strange[0][0]}` and "
            f"{len(strange) - 1} others are missing on one side or of another shape."
        )
    before = {name: parameter.requires_grad for name, parameter in model.hf.named_parameters()}
    with quiet("PEFT cannot read the adapter"), torch.no_grad():
        result = library.set_peft_model_state_dict(
            model.hf, {f"{prefix}{name}": tensor for name, tensor in found.items()}
        )
    if result.unexpected_keys:
        raise CheckpointError(f"{stored.folder}: PEFT has no place for {result.unexpected_keys[:3]}.")
    for name, parameter in model.hf.named_parameters():
        parameter.requires_grad_(before[name])
