"""Load adapters: into a model, or with the base that they name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from biject.adapters.file import fill
from biject.adapters.fit import num_outputs
from biject.adapters.make import add_adapter
from biject.adapters.state import Adapter, activate, adapters_of, remove
from biject.checkpoint.adapter import Stored, base_folder, is_adapter, read_adapter
from biject.checkpoint.fingerprint import weights_fingerprint
from biject.checkpoint.hub import resolve_folder
from biject.config.adapter import is_drawn_from_base
from biject.errors import BijectError, ConfigError, WeightsError, shown
from biject.events import notice
from biject.identify import identify
from biject.model import Model
from biject.nn.quantised import QuantisedLinear


def load_adapter(
    model: Model, folder: str | Path | Stored, name: str = "default", *, trainable: bool = False
) -> Adapter:
    """Give a model the adapter that a folder holds, and make it the active one.

    Args:
        model: The base, with the head that the adapter was trained for.
        folder: PEFT's files, or what `read_adapter` gave of them.
        name: What to call it.
        trainable: Its parameters require gradients; False for computing only.

    Raises:
        CheckpointError, ConfigError, WeightsError: The folder is damaged, or does not fit this model;
            the model is then as it was.
    """
    stored = folder if isinstance(folder, Stored) else read_adapter(folder)
    check_base(model, stored)
    tensors = stored.tensors()
    check_ranks(stored, tensors)
    before = () if model.adapters is None else adapters_of(model).active
    rebuilt = (
        isinstance(stored.config.init_lora_weights, str) and stored.config.init_lora_weights != "gaussian"
    )
    new = {binding.memory for binding in model.provenance.plan.initialized}
    adapter = add_adapter(model, stored.config, name, draw=rebuilt, stored=stored)
    try:
        fill(model, adapter, tensors, where=str(stored.folder))
    except BijectError:
        remove(model, [name])
        if before:
            activate(model, before)
        raise
    random = new - set(adapter.saved)
    assert not random, f"parameters of a new head that the adapter does not bring: {random}"
    adapter.record = dict(stored.record)
    _say_differences(model, stored)
    adapter.base = stored.base or adapter.base
    if not trainable:
        model.requires_grad_(False)
    return adapter


def _say_differences(model: Model, stored: Stored) -> None:
    """Notices where what is computed is not quite what was trained."""
    held = stored.record.get("quantization")
    if held and not any(isinstance(module, QuantisedLinear) for module in model.modules()):
        notice(
            "adapter-of-quantised-base",
            f"{stored.folder} was trained on a base in {shown(held)}, and this one is not quantised: outputs "
            f"are not quite those that were trained (quantization={held!r} gives them).",
        )
    if is_drawn_from_base(stored.config):
        notice(
            "adapter-drawn-again",
            f"{stored.folder}: {stored.config.init_lora_weights} takes a part out of the base by random "
            "numbers, which are drawn again here, as by PEFT: outputs are not quite those that were trained. "
            "PEFT's save_pretrained(…, path_initial_model_for_weight_conversion=…) writes such an adapter "
            "without them.",
        )


def check_ranks(stored: Stored, tensors: Mapping[str, Tensor]) -> None:
    """Refuse ranks that no tensor of the file has, before anything of that size is made.

    Raises:
        WeightsError: The settings and the tensors are not of one adapter.
    """
    ranks = {size for name, value in tensors.items() if ".lora_" in name for size in value.shape}
    for rank in (stored.config.r, *stored.config.rank_pattern.values()):
        if rank > max(ranks, default=0):
            raise WeightsError(
                f"{stored.folder}: the adapter does not fit this model: its rank is {shown(rank)}, and "
                f"no tensor of its file has more than {max(ranks, default=0)} rows or columns."
            )


def check_base(model: Model, stored: Stored) -> None:
    """Refuse an adapter whose record says that it was trained on another base or head.

    Raises:
        ConfigError: It says so.
    """
    print_of = stored.record.get("base_fingerprint")
    if isinstance(print_of, str) and print_of != weights_fingerprint(model.source):
        raise ConfigError(
            f"{stored.folder}: the adapter was trained on a base whose weights are others than those of "
            f"{model.source.folder} (its fingerprint is {shown(print_of)}). Give the base that it belongs to"
            + (f": {stored.base}." if stored.base else ".")
        )
    if stored.head is not None and stored.head != model.head_name:
        raise ConfigError(
            f"{stored.folder}: the adapter is for the head {shown(stored.head)}, the model has "
            f"{model.head_name!r}."
        )


def with_adapter(
    path: str | Path, adapter: str | Path | None, *, revision: str | None, token: str | None
) -> tuple[Path, Stored | None]:
    """The base's folder, and the adapter that was named or that stands in the folder itself.

    Raises:
        CheckpointError: A folder is not there, or an adapter names no base.
    """
    folder = resolve_folder(path, revision=revision, token=token)
    if adapter is not None:
        return folder, read_adapter(resolve_folder(adapter, token=token))
    if not is_adapter(folder):
        return folder, None
    stored = read_adapter(folder)
    return base_folder(stored, token=token), stored


def head_for(
    stored: Stored,
    config: Mapping[str, Any],
    names: Collection[str],
    head: str,
    new_head: Mapping[str, Any] | None,
    *,
    asked: bool,
) -> tuple[str, Mapping[str, Any] | None]:
    """The head to build the base with, and what of it has to be made for the adapter to fill.

    Args:
        stored: The adapter.
        config: The base's config.json.
        names: Of the base's tensors.
        head: The one that the caller requested, or `auto`.
        new_head: As the caller gave it.
        asked: The caller named the head's outputs in one way or another.
    """
    chosen = stored.head or "auto" if head == "auto" else head
    if asked or chosen == "auto":
        return chosen, new_head
    own = identify(config, names, same=lambda one, other: True, where=str(stored.folder))
    if chosen != stored.head:
        return chosen, None
    return chosen, new_head_of(stored, own.file_head, width=own.config.hidden_size)


def refuse_whole(model: Model) -> None:
    """A model with adapters has no checkpoint of its own class.

    Raises:
        ConfigError: Always; it says what to call.
    """
    names = ", ".join(map(shown, adapters_of(model).adapters))
    raise ConfigError(
        f"The model has adapters ({names}), which a checkpoint of its class cannot hold: "
        "save_adapter(folder) writes the adapter alone, merge_adapter() first makes it part of the model."
    )


def new_head_of(stored: Stored, base_head: str, *, width: int = 1) -> Mapping[str, Any] | None:
    """What `new_head` a base without the adapter's head needs; None where it has it already.

    Args:
        stored: The adapter.
        base_head: The head of the base's file.
        width: Columns that a matrix of the head has at least.

    Raises:
        ConfigError, WeightsError: Nothing says how many classes there are, or a tensor that is no matrix.
    """
    head = stored.head
    if head is None or head in ("base", base_head):
        return None
    kept = {
        key: stored.record[key] for key in ("labels", "problem_type") if stored.record.get(key) is not None
    }
    if head in ("seqcls", "tokcls", "imgcls", "distilled") and "labels" not in kept:
        count = num_outputs(stored, width=width)
        if not count:
            raise ConfigError(f"{stored.folder} has no trained head, and its base has none: give the labels.")
        kept["labels"] = [f"LABEL_{index}" for index in range(count)]
        notice("adapter-labels", f"{stored.folder} does not name its {count} classes: LABEL_0 and so on.")
    return kept
