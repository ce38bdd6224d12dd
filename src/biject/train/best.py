"""`BestState`: the weights of the best evaluation, to go back to at the end of a run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from biject.distributed.sharding import is_sharded
from biject.events import notice
from biject.train import checkpoints, depends, ranks


class BestState:
    """Where the best evaluation's weights are: a checkpoint, or memory where the run has no folder.

    Args:
        model: what is trained.
        folders: where checkpoints may be; none at all keeps the weights in the CPU's memory.
    """

    def __init__(self, model: nn.Module, folders: list[Path]) -> None:
        self.model, self.folders = model, folders
        self._kept: list[Tensor] | None = None

    def keep(self) -> None:
        """The model has the best state now; rank 0 remembers what training may change."""
        if ranks.rank() == 0 or is_sharded(self.model):
            self._kept = [tensor.detach().to("cpu", copy=True) for tensor in self._changing()]

    def load(self, step: int) -> bool:
        """Put the best state, of optimizer step `step`, into the model of every rank; False where it is gone.

        Raises:
            CheckpointError: its checkpoint is damaged.
        """
        paths_all = [folder / checkpoints.folder_name(step) for folder in self.folders]
        path = next((path for path in paths_all if path.is_dir()), None)
        there = ranks.rank() == 0 and (self._kept is not None or path is not None)
        if not ranks.totals(float(there))[0]:
            notice(
                "no-best-state",
                f"The checkpoint of the best evaluation, step {step}, is gone: the model stays in the run's "
                "last state.",
            )
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

    def _changing(self) -> list[Tensor]:
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return [*trained, *self.model.buffers()]

    def _put_back(self, kept: list[Tensor]) -> None:
        with torch.no_grad():
            for tensor, before in zip(self._changing(), kept, strict=True):
                tensor.copy_(before)
