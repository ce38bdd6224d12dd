"""Checkpoints of a run: whole model folders plus the state, written atomically; best and latest are kept."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from biject.adapters.file import active_files, refill, save_adapter
from biject.adapters.kept import refuse_loss
from biject.adapters.state import adapters_of
from biject.checkpoint.content import Content
from biject.checkpoint.reader import Reader
from biject.checkpoint.run_files import JSON_FILE
from biject.checkpoint.source import open_source
from biject.checkpoint.writer import Seal, write_files, write_folder
from biject.distributed.sharding import put
from biject.errors import CheckpointError
from biject.model import Model
from biject.parameters import Staged, bound_parameters, read_adapters
from biject.save import save_model
from biject.train import ranks


@runtime_checkable
class OwnCheckpoints(Protocol):
    """A module that writes and reads its checkpoints itself, as one of `backend="hf"` does."""

    def write_checkpoint(
        self, folder: Path, state: Mapping[str, Content], *, without: Collection[str], seal: Seal | None
    ) -> None: ...

    def read_checkpoint(self, folder: Path) -> None: ...


_NAME = re.compile(r"step-(\d{6,})")


def folder_name(step: int) -> str:
    """`step-000100`."""
    return f"step-{step:06d}"


def existing(folder: Path) -> list[tuple[int, Path]]:
    """Complete checkpoints of a run, oldest first."""
    if not folder.is_dir():
        return []
    found = [
        (int(match[1]), path)
        for path in folder.iterdir()
        if (match := _NAME.fullmatch(path.name)) and (path / JSON_FILE).is_file()
    ]
    return sorted(found)


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None."""
    found = existing(folder)
    return found[-1][1] if found else None


Write = Callable[[Path, Mapping[str, Content], Seal | None], object]
"""Writes a checkpoint: its folder, further files, and the last one (see `write_folder`)."""


def writer(
    model: nn.Module,
    *,
    without: Collection[str] = (),
    copy: Callable[[Tensor], Tensor] | None = None,
    mesh: Any = None,
) -> Write:
    """What writes a checkpoint: a Hugging Face folder for our models, of one with an adapter PEFT's, which
    has nothing of the base; as a module writes its own; else the state dict as safetensors.

    Args:
        model: whose weights.
        without: assets of a Hugging Face folder that are not copied.
        copy: copies the weights now; without, they are those of when it writes.
        mesh: what copies are spread over.
    """
    if isinstance(model, OwnCheckpoints):
        return lambda folder, more, seal: model.write_checkpoint(folder, more, without=without, seal=seal)
    if isinstance(model, Model) and model.adapters is not None:
        if copy is None:
            return lambda folder, more, seal: save_adapter(model, folder, force=True, extra=more, seal=seal)
        own = active_files(model)
        return lambda folder, more, seal: (
            write_files(folder, {**own, **more}, force=True, seal=seal) if ranks.rank() == 0 else None
        )
    if isinstance(model, Model):
        staged = None
        if copy is not None:
            values = {name: copy(value) for name, value in bound_parameters(model).items()}
            staged = Staged(values=values, group=None if mesh is None else mesh.get_group())
        tokens = {} if model.tokenizer is None else model.tokenizer.changed_files()
        gone = {*without} if model.tokenizer is None else {*without, *model.tokenizer.removed_files()}
        return lambda folder, more, seal: save_model(
            model, folder, force=True, extra={**tokens, **more}, without=gone, seal=seal, staged=staged
        )
    held = model.state_dict()
    tensors = {name: tensor.detach() if copy is None else copy(tensor) for name, tensor in held.items()}
    files = {"config.json": b"{}\n"}
    return lambda folder, more, seal: write_folder(
        folder, tensors=tensors, like=None, files={**files, **more}, force=True, seal=seal
    )


def check(model: nn.Module) -> None:
    """Refuse to begin a run whose checkpoints could not hold all that is new.

    Raises:
        ConfigError: what they would lose.
    """
    if isinstance(model, Model) and model.adapters is not None:
        there = adapters_of(model)
        for name in there.active:
            refuse_loss(model, there.adapters[name])


def write(model: nn.Module, folder: Path, more: Mapping[str, Content]) -> None:
    """Write a model's weights of now as a checkpoint, with further files; see `writer`."""
    writer(model)(folder, more, None)


def read(model: nn.Module, folder: Path) -> None:
    """Put a checkpoint's weights into the model, in place.

    Raises:
        CheckpointError: the folder is damaged, or is of another model.
    """
    if isinstance(model, Model) and model.adapters is not None:
        refill(model, folder)
        return
    if isinstance(model, OwnCheckpoints):
        model.read_checkpoint(folder)
        return
    source = open_source(folder)
    reader = Reader(source)
    if isinstance(model, Model):
        plan = model.provenance.plan
        names = {b.memory: plan.written(b.disk[0]) for b in (*plan.bindings, *plan.initialized)}
        found = bound_parameters(model)
        targets: dict[str, Tensor] = {name: found[name] for name in names}
        read_adapters(model, folder)
    else:
        targets = dict(model.state_dict())
        names = {name: name for name in targets}
    with torch.no_grad():
        for name, target in targets.items():
            if names[name] not in source.tensors:
                raise CheckpointError(f"{folder} has no tensor `{names[name]}`: it is of another model.")
            stored = reader.tensor(names[name])
            if stored.shape != target.shape:
                raise CheckpointError(
                    f"{folder}: `{names[name]}` is {tuple(stored.shape)}, the model's is "
                    f"{tuple(target.shape)}."
                )
            put(target, stored)


def check_none_later(folder: Path, step: int) -> None:
    """Refuse a folder for a new run that has checkpoints of another one: they would be taken for its own.

    Raises:
        CheckpointError: there are some of a later step than the run's.
    """
    later = [path for number, path in existing(folder) if number > step]
    if later:
        names = later[0].name if len(later) == 1 else f"{later[0].name} to {later[-1].name}"
        raise CheckpointError(
            f"{folder} has checkpoints of another run, {names}, and this one begins at step {step}: resume "
            "that run (`resume=True`), choose another folder for `out`, or remove them."
        )


def prune(folder: Path, *, step: int, keep: int, best: int | None) -> None:
    """Remove all but the newest `keep` checkpoints up to `step`, one at least, and the best."""
    found = [(number, path) for number, path in existing(folder) if number <= step]
    for number, path in found[: max(0, len(found) - max(1, keep))]:
        if number != best:
            shutil.rmtree(path, ignore_errors=True)
