"""How tensors are laid out in safetensors files: unchanged if possible, else as the libraries do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from biject.checkpoint.bytes import CODES
from biject.checkpoint.cast import described, held
from biject.checkpoint.header import LENGTH_BYTES
from biject.checkpoint.header_check import METADATA_KEY
from biject.checkpoint.source import Source
from biject.checkpoint.strict_json import is_encodable, shown
from biject.checkpoint.tensor_info import ITEM_BYTES
from biject.errors import CheckpointError

MAX_SHARD_BYTES = 5_000_000_000
DEFAULT_METADATA: Mapping[str, str] = {"format": "pt"}
_RANK = {code: rank for rank, code in enumerate(ITEM_BYTES)}


@dataclass(frozen=True, kw_only=True)
class PlannedFile:
    """One weight file to be written.

    Attributes:
        file: Its name.
        header: Everything before the data: length, JSON text, padding.
        names: The tensors in the order of their data.
    """

    file: str
    header: bytes
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """All weight files, and the index that goes with them when there are several."""

    weights: tuple[PlannedFile, ...]
    index_file: str | None = None
    index_bytes: bytes = b""


def plan_layout(
    tensors: Mapping[str, torch.Tensor],
    *,
    like: Source | None,
    metadata: Mapping[str, str] | None,
    max_shard_bytes: int | None,
) -> Layout:
    """The layout of `like` to the byte if `tensors` fit it and nothing else is requested, else a new one.

    Raises:
        CheckpointError: A tensor cannot be stored.
        ValueError: No tensors, a shard size below 1, or metadata that are not strings.
    """
    if max_shard_bytes is not None and max_shard_bytes < 1:
        raise ValueError(f"max_shard_bytes must be at least 1, found {max_shard_bytes}")
    for name, tensor in held(tensors).items():
        _check_storable(name, tensor)
    tensors = described(tensors)
    if like is not None and max_shard_bytes is None and _fits(like, tensors, metadata):
        return _same_layout(like)
    if not tensors:
        raise ValueError("there are no tensors to write")
    if metadata is None and like is not None:
        metadata = next((header.metadata for header in like.headers.values()), None)
    if metadata is None:
        metadata = DEFAULT_METADATA
    for key, value in metadata.items():
        _check_text(key)
        _check_text(value)
    return _new_layout(tensors, metadata, max_shard_bytes or MAX_SHARD_BYTES)


def _check_storable(name: object, tensor: object) -> None:
    if not isinstance(name, str) or name == METADATA_KEY or not is_encodable(name):
        raise CheckpointError(f"{shown(name)} cannot be a tensor's name in a safetensors file: rename it.")
    if not isinstance(tensor, torch.Tensor):
        raise CheckpointError(
            f"{shown(name)} must be a tensor, but is a {type(tensor).__name__}: leave it out."
        )
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        raise CheckpointError(
            f"tensor {shown(name)} must be dense and have data; found layout {tensor.layout}, device "
            f"{tensor.device}, dtype {tensor.dtype}. Make it a plain tensor first."
        )
    if tensor.dtype not in CODES:
        raise CheckpointError(
            f"tensor {shown(name)} has dtype {tensor.dtype}, which Biject does not write: cast it."
        )


def _check_text(text: object) -> None:
    if not isinstance(text, str) or not is_encodable(text):
        raise ValueError(f"metadata must map strings to strings in UTF-8, found {shown(text)}")


def _fits(like: Source, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None) -> bool:
    return (
        like.format == "safetensors"
        and tensors.keys() == like.tensors.keys()
        and all(
            CODES[tensor.dtype] == like.tensors[name].dtype
            and tuple(tensor.shape) == like.tensors[name].shape
            for name, tensor in tensors.items()
        )
        and (metadata is None or all(header.metadata == metadata for header in like.headers.values()))
    )


def _same_layout(like: Source) -> Layout:
    weights = tuple(
        PlannedFile(
            file=file,
            header=_with_length(header.raw),
            names=tuple(info.name for info in header.in_data_order()),
        )
        for file, header in like.headers.items()
    )
    return Layout(weights=weights, index_file=like.index_file, index_bytes=like.index_bytes or b"")


def _new_layout(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], max_bytes: int) -> Layout:
    if sum(map(_num_bytes, tensors.values())) <= max_bytes:
        return Layout(weights=(_new_file("model.safetensors", tensors, tensors, metadata),))
    from huggingface_hub import split_state_dict_into_shards_factory

    split = split_state_dict_into_shards_factory(
        dict(tensors),
        get_storage_size=_num_bytes,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=max_bytes,
    )
    weights = tuple(
        _new_file(file, tensors, names, metadata) for file, names in split.filename_to_tensors.items()
    )
    if not split.is_sharded:
        return Layout(weights=weights)
    index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"  # as transformers writes it
    return Layout(weights=weights, index_file="model.safetensors.index.json", index_bytes=text.encode())


def _new_file(
    file: str, tensors: Mapping[str, torch.Tensor], names: Iterable[str], metadata: Mapping[str, str]
) -> PlannedFile:
    """The file that `safetensors` 0.8 writes, byte for byte (a test compares them).

    Written here because the library refuses tied tensors and shuffles metadata of several keys.
    """
    order = sorted(names, key=lambda name: (-_RANK[CODES[tensors[name].dtype]], name))
    entries: dict[str, object] = {METADATA_KEY: dict(metadata)}
    position = 0
    for name in order:
        end = position + _num_bytes(tensors[name])
        entries[name] = {
            "dtype": CODES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    return PlannedFile(file=file, header=_with_length(text), names=tuple(order))


def _with_length(text: bytes) -> bytes:
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _num_bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
