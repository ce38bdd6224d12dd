"""Legacy `pytorch_model.bin`: pickles, read with torch's restricted unpickler only, never executing code."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from mmap import MAP_PRIVATE
from pathlib import Path
from typing import Any

import torch

from biject.checkpoint.bytes import CODES
from biject.checkpoint.pickle_check import check_archive, check_legacy
from biject.checkpoint.strict_json import is_encodable, regular_file_bytes, shown
from biject.checkpoint.tensor_info import TensorInfo
from biject.errors import CheckpointError

CONVERT = "Load it with the program that wrote it and save the plain state dict, best as safetensors."
ZIP_START = b"PK\x03\x04"  # by which torch distinguishes an archive from an older file


def read_bin_infos(path: Path) -> dict[str, TensorInfo]:
    """What the tensors of a `.bin` file are; `start` is 0 and `end` the size in bytes.

    Raises:
        CheckpointError: See `load_bin`.
    """
    return {
        name: TensorInfo(
            name=name,
            dtype=CODES[tensor.dtype],
            shape=tuple(tensor.shape),
            file=path.name,
            start=0,
            end=tensor.numel() * tensor.element_size(),
        )
        for name, tensor in load_bin(path).items()
    }


def load_bin(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a `.bin` file; tied tensors keep their own names and share memory.

    Zip archives (torch ≥ 1.6) are mapped, older files are read.

    Raises:
        CheckpointError: The file is damaged, contains code or anything but named dense tensors.
    """
    file = path.name
    file_bytes = regular_file_bytes(path, what=file)
    entries = _unpickle(path, mmap=_is_mappable(path))
    if not isinstance(entries, Mapping):
        raise CheckpointError(f"{file} must be a state dict, but is a {type(entries).__name__}. {CONVERT}")
    nested = [key for key, value in entries.items() if isinstance(value, Mapping)]
    if nested:
        raise CheckpointError(
            f"{file} must have tensors by name, but has dictionaries under {_names(nested)}: it looks like a "
            f"training checkpoint, not a state dict. {CONVERT}"
        )
    tensors = {name: _checked(name, value, file) for name, value in entries.items()}
    _check_storages(tensors, file, file_bytes)
    return tensors


def _unpickle(path: Path, *, mmap: bool) -> Any:
    file = path.name
    try:
        with warnings.catch_warnings(), torch.serialization.set_default_mmap_options(MAP_PRIVATE):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # whatever a broken or hostile pickle provokes in torch
        text = str(error)
        if "Unsupported" in text or "weights_only" in text or "Weights only" in text:
            raise CheckpointError(
                f"{file} contains more than tensors: torch's restricted unpickler refused it "
                f"({_reason(error)}). Such a file could run code, so Biject never loads it. {CONVERT}"
            ) from error
        raise CheckpointError(
            f"{file} is not a PyTorch file that can be read, or is cut short ({_reason(error)}). Fetch it "
            "again."
        ) from error


def _reason(error: Exception) -> str:
    text = str(error)
    start = max(text.find("WeightsUnpickler error: "), 0)
    line = text[start:].strip().split("\n", 1)[0].removeprefix("WeightsUnpickler error: ")
    return f"{type(error).__name__}: {line[:200]}"


def _is_mappable(path: Path) -> bool:
    """Whether the file is an archive whose records are laid out as in memory; older files are not archives.

    Raises:
        CheckpointError: Records are compressed, so that a small file could need any amount of memory.
    """
    try:
        with path.open("rb") as stream:
            zipped = stream.read(len(ZIP_START)) == ZIP_START
        if not zipped:
            check_legacy(path)
            return False
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if any(record.compress_type != zipfile.ZIP_STORED for record in records):
                raise CheckpointError(
                    f"{path.name} has compressed records, which torch.save never writes. {CONVERT}"
                )
            check_archive(archive, path.name)
            orders = [record for record in records if record.filename.endswith("/byteorder")]
            return all(record.file_size < 16 and archive.read(record) == b"little" for record in orders)
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, NotImplementedError, EOFError) as error:
        raise CheckpointError(f"{path.name} cannot be read: {_reason(error)}. Fetch it again.") from error


def _checked(name: object, value: object, file: str) -> torch.Tensor:
    where = f"{file}: {shown(name)}"
    if not isinstance(name, str) or not is_encodable(name):
        raise CheckpointError(f"{where} is not a usable tensor name; a string is expected. {CONVERT}")
    if not isinstance(value, torch.Tensor):
        raise CheckpointError(f"{where} must be a tensor, but is a {type(value).__name__}. {CONVERT}")
    tensor = value.detach()
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise CheckpointError(f"{where} must be a dense tensor with data, found {_kind(tensor)}. {CONVERT}")
    if tensor.dtype not in CODES:
        raise CheckpointError(f"{where} has dtype {tensor.dtype}, which Biject does not read: convert it.")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(
            f"{where} has shape {tuple(tensor.shape)} but only {tensor.untyped_storage().nbytes()} bytes of "
            f"data. It is an expanded view, or the file is damaged. {CONVERT}"
        )
    return tensor


def _kind(tensor: torch.Tensor) -> str:
    return f"layout {tensor.layout}, device {tensor.device}, dtype {tensor.dtype}"


def _check_storages(tensors: Mapping[str, torch.Tensor], file: str, file_bytes: int) -> None:
    """Distinct memory of all tensors cannot exceed the file; a pickle that claims more is lying."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors.values()}
    if sum(storages.values()) > file_bytes:
        raise CheckpointError(
            f"{file} claims {sum(storages.values())} bytes of tensors but has only {file_bytes} bytes. Fetch "
            "it again."
        )


def _names(names: list[Any]) -> str:
    head = ", ".join(shown(name) for name in names[:5])
    return head + (f" and {len(names) - 5} more" if len(names) > 5 else "")
