"""Tensors of a checkpoint folder as views on its files: mapped, not read, until somebody touches them."""

from __future__ import annotations

from itertools import accumulate
from operator import mul

import torch

from biject.checkpoint.bytes import DTYPES, tensor_bytes
from biject.checkpoint.forget import forget
from biject.checkpoint.header import LENGTH_BYTES
from biject.checkpoint.legacy import load_bin
from biject.checkpoint.source import Source
from biject.checkpoint.strict_json import regular_file_bytes, shown
from biject.checkpoint.tensor_info import ITEM_BYTES, TensorInfo
from biject.checkpoint.truncated import mapped
from biject.errors import CheckpointError


class Reader:
    """Hands out the tensors of a `Source`.

    Each safetensors file is mapped once, private and copy-on-write: a write to a tensor stays in this process
    and never reaches the file. The mapping lives as long as any tensor on it.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._storages: dict[str, torch.UntypedStorage] = {}
        self._state_dicts: dict[str, dict[str, torch.Tensor]] = {}

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor called `name` in the file.

        Raises:
            CheckpointError: The folder has no such tensor, or the file changed since the folder was opened.
        """
        info = self._source.tensors.get(name)
        if info is None:
            raise CheckpointError(
                f"{self._source.folder} has no tensor {shown(name)}; it has {len(self._source.tensors)} "
                "others."
            )
        if self._source.format == "bin":
            return self._from_pickle(info)
        return _view(self._storage(info.file), info)

    def forget(self, name: str) -> None:
        """Give back the memory of a mapped tensor that was read and never written to; it comes again when it
        is touched.
        """
        info = self._source.tensors[name]
        storage = self._storages.get(info.file)
        if storage is not None:
            forget(storage.data_ptr() + info.start, info.nbytes)

    def _storage(self, file: str) -> torch.UntypedStorage:
        if file not in self._storages:
            header = self._source.headers[file]
            path = self._source.folder / file
            if regular_file_bytes(path, what=file) != header.file_bytes:
                raise _changed(file)
            try:
                storage = _map(str(path), header.file_bytes)
            except (RuntimeError, OSError, ValueError) as error:
                raise CheckpointError(f"{file} cannot be mapped into memory: {error}.") from error
            mapped(path, header.file_bytes)
            first = _bytes_of(storage, 0, header.data_start)
            if bytes(tensor_bytes(first)[LENGTH_BYTES:]) != header.raw:
                raise _changed(file)
            self._storages[file] = storage
        return self._storages[file]

    def _from_pickle(self, info: TensorInfo) -> torch.Tensor:
        if info.file not in self._state_dicts:
            self._state_dicts[info.file] = load_bin(self._source.folder / info.file)
        tensor = self._state_dicts[info.file].get(info.name)
        if tensor is None or tensor.dtype != DTYPES[info.dtype] or tuple(tensor.shape) != info.shape:
            raise _changed(info.file)
        return tensor


def _view(storage: torch.UntypedStorage, info: TensorInfo) -> torch.Tensor:
    item_bytes = ITEM_BYTES[info.dtype]
    dtype = DTYPES[info.dtype]
    if info.nbytes == 0:
        return torch.empty(info.shape, dtype=dtype)
    if info.start % item_bytes == 0:  # a mapping starts on a page
        stride = tuple(accumulate(reversed(info.shape[1:]), mul, initial=1))[::-1] if info.shape else ()
        return torch.empty(0, dtype=dtype).set_(storage, info.start // item_bytes, info.shape, stride)
    return _bytes_of(storage, info.start, info.nbytes).clone().view(dtype).reshape(info.shape)


def _bytes_of(storage: torch.UntypedStorage, start: int, num_bytes: int) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(storage, start, (num_bytes,), (1,))


def _map(path: str, num_bytes: int) -> torch.UntypedStorage:
    storage = torch.UntypedStorage.from_file(path, shared=False, nbytes=num_bytes)
    assert isinstance(storage, torch.UntypedStorage)
    return storage


def _changed(file: str) -> CheckpointError:
    return CheckpointError(
        f"{file} has changed since its folder was opened. Leave it alone, or open the folder again."
    )
