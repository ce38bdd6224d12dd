"""Load adapters: into a model, or with the base that they name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biject.adapters.file import Stored, fill, read_adapter
from biject.adapters.make import add_adapter
from biject.adapters.state import Adapter, activate, adapters_of, remove
from biject.errors import BijectError, ConfigError, shown
from biject.events import notice
from biject.model import Model


def load_adapter(model: Model, folder: str | Path, name: str = "default", *, trainable: bool = False) -> Adapter:
    """Give a model the adapter that a folder holds, and make it the active one.

    Args:
        model: The base, with the head that the adapter was trained for.
        folder: PEFT's files.
        name: What to call it.
        trainable: Its parameters require gradients; False for computing only.

    Raises:
        CheckpointError, ConfigError, WeightsError: The folder is damaged, or does not fit this model; the model
            is then as it was.
    """
    stored = read_adapter(folder)
    check_base(model, stored)
    tensors = stored.tensors()
    before = () if model.adapters is None else adapters_of(model).active
    rebuilt = isinstance(stored.config.init_lora_weights, str) and stored.config.init_lora_weights != "gaussian"
    adapter = add_adapter(model, stored.config, name, draw=rebuilt)
    try:
        fill(model, adapter, tensors, where=str(folder))
    except BijectError:
        remove(model, [name])
        if before:
            activate(model, before)
        raise
    adapter.record = dict(stored.record)
    adapter.base = stored.base or adapter.base
    if not trainable:
        model.requires_grad_(False)
    return adapter


def check_base(model: Model, stored: Stored) -> None:
    """Refuse an adapter whose record says that it was trained on another base or head.

    Raises:
        ConfigError: It says so.
    """
    print_of = stored.record.get("base_fingerprint")
    if isinstance(print_of, str) and print_of != fingerprint_of(model):
        raise ConfigError(
            f"{stored.folder}: the adapter was trained on a base whose weights are others than those of "
            f"{model.source.folder} (its fingerprint is {shown(print_of)}). Give the base that it belongs to"
            + (f": {stored.base}." if stored.base else ".")
        )
    if stored.head is not None and stored.head != model.head_name:
        raise ConfigError(
            f"{stored.folder}: the adapter is for the head {shown(stored.head)}, the model has {model.head_name!r}."
        )


def fingerprint_of(model: Model) -> str:
    """Of the weight files that a model was loaded from."""
    from biject.checkpoint.fingerprint import weights_fingerprint

    return weights_fingerprint(model.source)


def new_head_of(stored: Stored, base_head: str) -> Mapping[str, Any] | None:
    """What `new_head` a base without the adapter's head needs; None where it has it already."""
    head = stored.head
    if head is None or head in ("base", base_head):
        return None
    kept = {key: stored.record[key] for key in ("labels", "problem_type") if stored.record.get(key) is not None}
    if head in ("seqcls", "tokcls") and "labels" not in kept:
        count = _num_outputs(stored)
        kept["labels"] = [f"LABEL_{index}" for index in range(count)]
        notice("adapter-labels", f"{stored.folder} does not name its {count} classes: LABEL_0 and so on.")
    return kept


def _num_outputs(stored: Stored) -> int:
    """Rows of the last matrix of the head that the adapter holds."""
    heads = [
        tensor
        for name, tensor in stored.tensors().items()
        if name.endswith(("classifier.weight", "score.weight", "classifier.out_proj.weight"))
        and not name.endswith("pre_classifier.weight")
    ]
    if not heads:
        raise ConfigError(f"{stored.folder} has no trained head, and its base has none: give the labels.")
    return int(heads[-1].shape[0])
