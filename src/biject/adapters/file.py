"""PEFT's files: `adapter_config.json` and `adapter_model.safetensors`, written and read without PEFT."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from biject.adapters.kept import refuse_loss
from biject.adapters.keys import tensors_of
from biject.adapters.state import Adapter, adapters_of
from biject.adapters.targets import HEADS
from biject.checkpoint.adapter import CONFIG, HELD, PREFIX, RECORD, WEIGHTS, Stored, read_adapter
from biject.checkpoint.content import Content
from biject.checkpoint.fingerprint import weights_fingerprint
from biject.checkpoint.strict_json import regular_file_bytes
from biject.checkpoint.writer import Seal, Written, check_apart, write_files
from biject.config.adapter import TASK_TYPES, LoraConfig
from biject.errors import ConfigError, WeightsError, shown
from biject.model import Model
from biject.nn.modules import TransposedLinear
from biject.parameters import declared_files, full_tensor, on_first_rank, read_adapters

PEFT_VERSION = "0.21.2"


def settings_digest(config: LoraConfig) -> str:
    """sha256 of an adapter's settings: of what is computed, and not of how the file is spelt."""
    values = {
        key: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for key, value in config.to_peft().items()
    }
    listed = values["target_modules"]
    values["target_modules"] = sorted(listed) if isinstance(listed, list) else listed
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def changed_files(stored: Stored) -> list[str]:
    """Which of an adapter's files are no longer what biject.json says that was written; none where it says
    nothing.

    Raises:
        CheckpointError: The weights are no regular file.
    """
    found = []
    if stored.record.get("settings_sha256", settings_digest(stored.config)) != settings_digest(stored.config):
        found.append(CONFIG)
    expected = stored.record.get("tensors_sha256")
    if expected is not None:
        regular_file_bytes(stored.weights, what=stored.weights.name)
        with stored.weights.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                found.append(stored.weights.name)
    return found


def adapter_files(model: Model, adapter: Adapter, *, base: str | None = None) -> dict[str, bytes]:
    """The folder's files by name."""
    config = {
        **adapter.config.to_peft(),
        "base_model_name_or_path": adapter.base if base is None else base,
        "fan_in_fan_out": any(
            isinstance(model.get_submodule(name), TransposedLinear) for name in adapter.parts
        ),
        "inference_mode": True,
        "peft_version": PEFT_VERSION,
        "revision": None,
        "task_type": _task(model, adapter),
    }
    values = {
        name: full_tensor(value).cpu().contiguous() for name, value in tensors_of(model, adapter).items()
    }
    weights = save({name: value.clone() for name, value in values.items()}, metadata={"format": "pt"})
    record = {
        **adapter.record,
        "head": model.head_name,
        **_labels(model),
        "base_fingerprint": weights_fingerprint(model.source),
        **_held(model),
        "settings_sha256": settings_digest(adapter.config),
        "tensors_sha256": hashlib.sha256(weights).hexdigest(),
    }
    return {
        CONFIG: (json.dumps(dict(sorted(config.items())), indent=2, ensure_ascii=False) + "\n").encode(),
        WEIGHTS: weights,
        RECORD: (json.dumps({"adapter": record}, indent=2, ensure_ascii=False) + "\n").encode(),
    }


def _task(model: Model, adapter: Adapter) -> str | None:
    """PEFT's word for the head; none for one that is frozen with the base, as PEFT would train it."""
    whole = all(name in adapter.config.modules_to_save for name in HEADS.get(model.head_name, ()))
    return TASK_TYPES.get(model.head_name) if whole else None


def active_files(model: Model) -> dict[str, bytes]:
    """The active adapter's files by name, and those of what was declared beside it, as they are now.

    Of a spread model all have to call this.

    Raises:
        ConfigError: See `save_adapter`.
    """
    return _all_files(model, None)


def _all_files(model: Model, name: str | None) -> dict[str, bytes]:
    adapter = _one(model, name)
    refuse_loss(model, adapter)
    return {**adapter_files(model, adapter), **declared_files(model)}


def save_adapter(
    model: Model,
    folder: str | Path,
    *,
    name: str | None = None,
    force: bool = False,
    extra: Mapping[str, Content] | None = None,
    seal: Seal | None = None,
) -> Written:
    """Write an adapter as PEFT does: its parameters, the trained head, and nothing of the base.

    Args:
        model: With the adapter.
        folder: One that does not exist yet, or with `force` an adapter that is replaced.
        name: Which adapter; left out, the active one.
        force: Replace the folder; never the base.
        extra: Further files.
        seal: A last file of the digests of all others.

    Raises:
        ConfigError: There is no such adapter; or its files could not hold all that is new.
        CheckpointError: The folder has the base in it, or cannot be written; everything is as it was.
    """
    check_apart(Path(folder), model.source.folder, inside=True)
    files = _all_files(model, name)
    return on_first_rank(
        model, {}, lambda whole: write_files(Path(folder), {**files, **(extra or {})}, force=force, seal=seal)
    )


def refill(model: Model, folder: Path) -> None:
    """Put a folder's values into the model's active adapter and what was declared beside it, in place.

    Raises:
        CheckpointError, WeightsError: The folder is damaged, or of another adapter.
    """
    fill(model, _one(model, None), read_adapter(folder).tensors(), where=str(folder))
    read_adapters(model, folder)


def _one(model: Model, name: str | None) -> Adapter:
    there = adapters_of(model)
    chosen = (name,) if name is not None else there.active
    if len(chosen) != 1 or chosen[0] not in there.adapters:
        raise ConfigError(
            f"Which adapter? There are {', '.join(map(shown, there.adapters))}; active: "
            f"{', '.join(map(shown, there.active)) or 'none'}."
        )
    return there.adapters[chosen[0]]


def _held(model: Model) -> dict[str, Any]:
    """How the base's linears are held, under the names of `from_pretrained`'s arguments."""
    if model.quantization is None:
        return {"quantization": None}
    values = asdict(model.quantization)
    return {"quantization": values["method"], **{key: values[key] for key in HELD}}


def _labels(model: Model) -> dict[str, Any]:
    """What config.json of a base without this head does not say."""
    if model.head_name not in ("seqcls", "tokcls", "imgcls", "distilled"):
        return {}
    kept = {"labels": list(model.id2label.values()), "problem_type": model.hf_config.get("problem_type")}
    return {key: value for key, value in kept.items() if value is not None}


def fill(model: Model, adapter: Adapter, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Put stored values into an adapter that has the same settings.

    Raises:
        WeightsError: A tensor is missing, has another shape, or belongs to nothing.
    """
    expected = tensors_of(model, adapter)
    faults, used = [], set()
    with torch.no_grad():
        for key, target in expected.items():
            name = key.removeprefix(PREFIX)
            if ".original_module." in name or ".modules_to_save." in name:
                used.add(name)
                continue
            if name.endswith(".base_layer.weight"):
                used.add(name)
                faults += _same_table(name, target, tensors.get(name))
                continue
            found = tensors.get(name)
            used.add(name)
            if found is None:
                faults.append(f"`{name}` is missing")
            elif found.shape != target.shape or not found.is_floating_point():
                faults.append(f"`{name}` should be {tuple(target.shape)}, found {tuple(found.shape)}")
            else:
                _put(target, found)
    strange = [
        name
        for name in tensors
        if name not in used and ".original_module." not in name and ".modules_to_save." not in name
    ]
    faults += [f"`{name}` belongs to no module that its settings name" for name in strange]
    if faults:
        more = f"; and {len(faults) - 6} more" if len(faults) > 6 else ""
        raise WeightsError(
            f"{where}: the adapter does not fit this model: {'; '.join(faults[:6])}{more}. Is it of another "
            "base, or of another head?"
        )


def _put(target: Tensor, whole: Tensor) -> None:
    if hasattr(target, "full_tensor"):  # spread over ranks
        from biject.distributed.sharding import put  # it loads torch's distributed package

        put(target, whole)
    else:
        target.copy_(whole)


def _same_table(name: str, own: Tensor, stored: Tensor | None) -> list[str]:
    """Where the table is spread over ranks, all of them have to call this."""
    if stored is None:
        return []
    if stored.shape == own.shape and torch.equal(stored.to(own.dtype), full_tensor(own).cpu()):
        return []
    return [f"`{name}` is another table than the base's (resized or trained since?)"]
