"""`BestState`: the weights of the best evaluation, to go back to at the end of a run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from biject.distributed.sharding import is_sharded
from biject.events import notice
from biject.train import checkpoints, depends, ranks


class BestState:
    """Where the best evaluation's weights are: a checkpoint, or memory where the run has no folder.

    Args:
        model: what is trained.
        folders: where checkpoints may be; none at all keeps the weights in the CPU's memory.
        optimizer: what trains it: its parameters may change, frozen for now or not.
    """

    def __init__(self, model: nn.Module, folders: list[Path], optimizer: Optimizer | None = None) -> None:
        self.model, self.folders, self.optimizer = model, folders, optimizer
        self._kept: dict[str, Tensor] | None = None

    def keep(self) -> None:
        """The model has the best state now; rank 0 remembers what training may change."""
        if ranks.rank() == 0 or is_sharded(self.model):
            changing = self._changing()
            self._kept = {name: tensor.detach().to("cpu", copy=True) for name, tensor in changing.items()}

    def load(self, step: int) -> bool:
        """Put the best state, of optimizer step `step`, into the model of every rank; False where it is gone.

        Raises:
            CheckpointError: its checkpoint is damaged.
        """
        paths_all = [folder / checkpoints.folder_name(step) for folder in self.folders]
        path = next((path for path in paths_all if path.is_dir()), None)
        missing = [] if self._kept is None else [name for name in self._changing() if name not in self._kept]
        there = ranks.rank() == 0 and not missing and (self._kept is not None or path is not None)
        if not ranks.totals(float(there))[0]:
            why = f"The checkpoint of the best evaluation, step {step}, is gone"
            if missing:
                why = f"{missing[0]} was not trained yet at the best evaluation, step {step}, and not kept"
            notice("no-best-state", f"{why}: the model stays in the run's last state.")
            return False
        if self._kept is not None:
            self._put_back(self._kept)
        elif is_sharded(self.model):
            self._read(next(path for path in paths_all if path.is_dir()))
        else:
            ranks.on_first(lambda: None if path is None else self._read(path))
        if is_sharded(self.model):
            return True
        ranks.broadcast(tensor.detach() for tensor in (*self.model.parameters(), *self.model.buffers()))
        return True

    def _read(self, path: Path) -> None:
        depends.check_files(path, expected=False)
        checkpoints.read(self.model, path)

    def _changing(self) -> dict[str, Tensor]:
        groups = [] if self.optimizer is None else self.optimizer.param_groups
        held = {id(parameter) for group in groups for parameter in group["params"]}
        named = self.model.named_parameters()
        trained = {name: one for name, one in named if one.requires_grad or id(one) in held}
        return {**trained, **dict(self.model.named_buffers())}

    def _put_back(self, kept: dict[str, Tensor]) -> None:
        own = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        with torch.no_grad():
            for name, before in kept.items():
                own[name].copy_(before)
