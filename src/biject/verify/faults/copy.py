"""A copy of an export in which a fault is planted: its tensors, config and files, ready to be damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biject.checkpoint.reader import Reader
from biject.checkpoint.source import CONFIG, Source, open_source
from biject.checkpoint.writer import write_folder
from biject.families import Family
from biject.verify.faults.outcome import DoesNotApply
from biject.weights.plan import Plan


class Copy:
    """A folder that may be damaged.

    Attributes:
        folder: Where the copy is.
        source: The copy as it was before anything was planted.
        family: The export's family.
        head: The export's head.
        values: Its config by our field names, resolved.
        plan: Parameters and their tensors.
    """

    def __init__(
        self,
        export: Source,
        folder: Path,
        *,
        family: Family,
        head: str,
        values: Mapping[str, Any],
        plan: Plan,
    ) -> None:
        for name in _files(export):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(export.folder / name, target)  # a link becomes a file: the original stays whole
        self.folder, self.family, self.head, self.values, self.plan = folder, family, head, values, plan
        self.source = open_source(folder)
        self._reader = Reader(self.source)

    @cached_property
    def names(self) -> Mapping[str, str]:
        """The tensor that is read as each parameter."""
        return {binding.memory: binding.disk[0] for binding in self.plan.bindings}

    def disk(self, *memories: str) -> str:
        """The tensor of the first of these parameters that the model has."""
        for memory in memories:
            if memory in self.names:
                return self.names[memory]
        raise DoesNotApply(f"the model has no `{memories[0]}`")

    def layers(self) -> int:
        """How many layers have parameters of their own."""
        return len({memory.split(".")[1] for memory in self.names if memory.startswith("layers.")})

    def tensor(self, name: str) -> Tensor:
        """A tensor of the copy, in memory of its own."""
        return self._reader.tensor(name).clone()

    def store(self, changes: Mapping[str, Tensor | None]) -> None:
        """Write changed and added tensors, leave out those that are None; the rest stays."""
        home = {name: info.file for name, info in self.source.tensors.items()}
        first = self.source.weight_files[0]
        for file in dict.fromkeys(home.get(name, first) for name in changes):
            kept = {name: self.tensor(name) for name, where in home.items() if where == file}
            own = {name: value for name, value in changes.items() if home.get(name, first) == file}
            stored = {name: value for name, value in {**kept, **own}.items() if value is not None}
            self._write_weights(file, {name: value.contiguous() for name, value in stored.items()})
        if self.source.index_file is not None:
            index = json.loads((self.folder / self.source.index_file).read_bytes())
            for name, value in changes.items():
                index["weight_map"].pop(name, None)
                if value is not None:
                    index["weight_map"][name] = home.get(name, first)
            self.write(self.source.index_file, json.dumps(index).encode())

    def _write_weights(self, file: str, tensors: dict[str, Tensor]) -> None:
        fresh = self.folder / f"{file}.new"  # the old file is still mapped
        if self.source.format == "bin":
            torch.save(tensors, fresh)
        else:
            from safetensors.torch import save_file

            metadata = self.source.headers[file].metadata
            save_file(tensors, fresh, metadata=None if metadata is None else dict(metadata))
        fresh.replace(self.folder / file)

    def config(self) -> dict[str, Any]:
        """config.json, to be changed and given to `write_config`."""
        value = json.loads(self.source.config_bytes)
        assert isinstance(value, dict)
        return value

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replace config.json."""
        self.write(CONFIG, (json.dumps(config, indent=2) + "\n").encode())

    def key(self, field: str) -> str:
        """The config's own name of one of our fields."""
        row = self.family.config.keys.get(field)
        if row is None:
            raise DoesNotApply(f"config.json of `{self.family.model_type}` has no key for `{field}`")
        return row.name

    def read(self, name: str) -> bytes:
        """A file of the copy."""
        return (self.folder / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Replace or add a file."""
        (self.folder / name).write_bytes(data)

    def delete(self, name: str) -> None:
        """Remove a file."""
        (self.folder / name).unlink()

    def reshard(self) -> tuple[str, ...]:
        """Write the weights anew as several files, and name them."""
        tensors = {name: self.tensor(name) for name in self.source.tensors}
        if len(tensors) < 2:
            raise DoesNotApply("one tensor cannot be spread over files")
        total = sum(info.nbytes for info in self.source.tensors.values())
        most = max(info.nbytes for info in self.source.tensors.values())
        cut = self.folder / "cut"
        write_folder(cut, tensors=tensors, like=None, files={}, max_shard_bytes=max(most, total // 3))
        for name in (*self.source.weight_files, *filter(None, [self.source.index_file])):
            self.delete(name)
        for path in sorted(cut.iterdir()):
            path.rename(self.folder / path.name)
        cut.rmdir()
        shards = tuple(path.name for path in sorted(self.folder.glob("model-*.safetensors")))
        if len(shards) < 2:
            raise DoesNotApply("the weights do not fill two files")
        return shards


def _files(export: Source) -> list[str]:
    """What belongs to the model; other weight formats are not copied."""
    index = [export.index_file] if export.index_file else []
    return [CONFIG, *export.weight_files, *index, *export.assets]
