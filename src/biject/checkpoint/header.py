"""The safetensors header: every tensor's name, dtype, shape and place, checked before anything is allocated.

Format: the safetensors README, version 0.8. Eight bytes hold the header's length N (little endian),
then N bytes of JSON, then the data; offsets in the JSON count from the first byte of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from biject.checkpoint.header_check import parse_tensors
from biject.checkpoint.strict_json import MAX_HEADER_BYTES, regular_file_bytes
from biject.checkpoint.tensor_info import TensorInfo
from biject.errors import CheckpointError

__all__ = ["LENGTH_BYTES", "Header", "TensorInfo", "read_header"]

LENGTH_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class Header:
    """A safetensors file's description of itself, and its bytes.

    Attributes:
        file: Name relative to the folder.
        tensors: In the order of the JSON text, which need not be the order of the data.
        metadata: None if the file has none.
        raw: The JSON text with its padding, verbatim, so that it can be written again unchanged.
        data_start: Offset of the first data byte in the file.
        file_bytes: Size of the whole file.
    """

    file: str
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str] | None
    raw: bytes
    data_start: int
    file_bytes: int

    def in_data_order(self) -> list[TensorInfo]:
        """The tensors as their data follow each other, without a gap."""
        return sorted(self.tensors.values(), key=lambda info: (info.start, info.end))


def read_header(path: Path) -> Header:
    """Read and check the header of one safetensors file; no tensor data is touched.

    Raises:
        CheckpointError: The file is missing, cut short or longer than its header describes, or the header is
            damaged, names something twice, or describes tensors that overlap, leave holes or do not fit their
            shape.
    """
    file = path.name
    file_bytes = regular_file_bytes(path, what=file)
    raw = _read_raw(path, file, file_bytes)
    data_start = LENGTH_BYTES + len(raw)
    tensors, metadata = parse_tensors(raw, file=file, data_start=data_start, file_bytes=file_bytes)
    return Header(
        file=file,
        tensors=tensors,
        metadata=metadata,
        raw=raw,
        data_start=data_start,
        file_bytes=file_bytes,
    )


def _read_raw(path: Path, file: str, file_bytes: int) -> bytes:
    again = "Fetch it again: it is cut short or not a safetensors file."
    try:
        with path.open("rb") as stream:
            length = stream.read(LENGTH_BYTES)
            if len(length) < LENGTH_BYTES:
                raise CheckpointError(
                    f"{file} must start with {LENGTH_BYTES} bytes that give its header's length, but it has "
                    f"only {file_bytes} bytes in all. {again}"
                )
            num_bytes = int.from_bytes(length, "little")
            if num_bytes > MAX_HEADER_BYTES:
                raise CheckpointError(
                    f"{file} declares a header of {num_bytes} bytes; at most {MAX_HEADER_BYTES} are "
                    f"allowed. {again}"
                )
            if num_bytes > file_bytes - LENGTH_BYTES:
                raise CheckpointError(
                    f"{file} declares a header of {num_bytes} bytes, but only "
                    f"{file_bytes - LENGTH_BYTES} bytes follow the length. {again}"
                )
            raw = stream.read(num_bytes)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error}. Check its permissions.") from error
    if len(raw) != num_bytes:
        raise CheckpointError(
            f"{file} became shorter while it was read. Wait until it is complete and try again."
        )
    return raw
