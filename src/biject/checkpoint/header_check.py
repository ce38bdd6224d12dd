"""From a safetensors header's text to its tensors; every inconsistency is caught here. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, TypeGuard

from biject.checkpoint.strict_json import is_encodable, no_collection, parse_object, shown
from biject.checkpoint.tensor_info import ITEM_BYTES, TensorInfo
from biject.errors import CheckpointError

METADATA_KEY = "__metadata__"
MAX_COUNT = 2**63 - 1  # torch counts elements and strides in int64
AGAIN = "The file is damaged or was written by a faulty program: fetch it again."


def parse_tensors(
    raw: bytes, *, file: str, data_start: int, file_bytes: int
) -> tuple[dict[str, TensorInfo], dict[str, str] | None]:
    """The header's tensors in the order of the text, and its metadata.

    Args:
        raw: The JSON text with its padding.
        file: Name for messages and for the result.
        data_start: Offset of the data in the file.
        file_bytes: Size of the file; the tensors must fill it exactly.

    Raises:
        CheckpointError: See `biject.checkpoint.header.read_header`.
    """
    entries = parse_object(raw, where=f"the header of {file}")
    metadata = _metadata(entries.pop(METADATA_KEY, None), file)
    with no_collection():
        tensors = {name: _tensor(name, entry, file, data_start) for name, entry in entries.items()}
    _check_cover(tensors, file, data_start, file_bytes)
    return tensors, metadata


def _metadata(entry: object, file: str) -> dict[str, str] | None:
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise CheckpointError(
            f"{file}: {METADATA_KEY} must be an object of strings, found {shown(entry)}. {AGAIN}"
        )
    for key, value in entry.items():
        if not isinstance(value, str) or not is_encodable(value):
            raise CheckpointError(
                f"{file}: {METADATA_KEY}[{shown(key)}] must be a string in UTF-8, found {shown(value)}. "
                f"{AGAIN}"
            )
    return entry


def _tensor(name: str, entry: Any, file: str, data_start: int) -> TensorInfo:
    if not isinstance(entry, dict):
        raise CheckpointError(
            f"{file}: tensor {shown(name)} must be described by an object with dtype, shape and "
            f"data_offsets, found {shown(entry)}. {AGAIN}"
        )
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise CheckpointError(
            f"{file}: tensor {shown(name)} has dtype {shown(dtype)}, which Biject does not read. It reads "
            f"{', '.join(ITEM_BYTES)}: convert the tensor to one of these."
        )
    if not _are_counts(shape):
        raise CheckpointError(
            f"{file}: tensor {shown(name)} needs a shape of integers from 0 up, found {shown(shape)}. {AGAIN}"
        )
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(
            f"{file}: tensor {shown(name)} needs data_offsets of two integers, the first not above the "
            f"second, found {shown(offsets)}. {AGAIN}"
        )
    numel = _numel(shape)
    if numel is None:
        raise CheckpointError(
            f"{file}: tensor {shown(name)} has shape {shown(shape)}, more elements than can be counted. "
            f"{AGAIN}"
        )
    expected, found = numel * ITEM_BYTES[dtype], offsets[1] - offsets[0]
    if expected != found:
        raise CheckpointError(
            f"{file}: tensor {shown(name)} of dtype {dtype} and shape {shown(shape)} needs {expected} bytes, "
            f"but its data_offsets {shown(offsets)} span {found}. {AGAIN}"
        )
    return TensorInfo(
        name=name,
        dtype=dtype,
        shape=tuple(shape),
        file=file,
        start=data_start + offsets[0],
        end=data_start + offsets[1],
    )


def _are_counts(value: object) -> TypeGuard[list[int]]:
    if not isinstance(value, list):
        return False
    for item in value:  # noqa: SIM110 (`all` of a generator takes twice the time, and tensors may be many)
        if type(item) is not int or not 0 <= item <= MAX_COUNT:
            return False
    return True


def _numel(shape: list[int]) -> int | None:
    """The product of `shape`, or None beyond int64; strides of an empty tensor must fit in it too."""
    product = 1
    for size in shape:
        product *= max(size, 1)
        if product > MAX_COUNT:
            return None
    return 0 if 0 in shape else product


def _check_cover(tensors: Mapping[str, TensorInfo], file: str, data_start: int, file_bytes: int) -> None:
    """The data must follow each other from the first byte to the file's last."""
    position, last = data_start, ""
    for info in sorted(tensors.values(), key=attrgetter("start", "end")):
        if info.start != position:
            before = f"tensor {shown(last)}" if last else "the header"
            kind = "overlaps" if info.start < position else "leaves a hole after"
            raise CheckpointError(
                f"{file}: tensor {shown(info.name)} {kind} {before}: its data should start at byte "
                f"{position} of the file, its data_offsets give {info.start}. {AGAIN}"
            )
        position, last = info.end, info.name
    if position != file_bytes:
        kind = "cut short" if position > file_bytes else "longer than its header describes"
        raise CheckpointError(
            f"{file} is {kind}: the header describes {position} bytes, the file has {file_bytes}. Fetch it "
            "again."
        )
