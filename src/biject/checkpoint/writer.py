"""Write a checkpoint folder: weights and all else, verified on disk before it gets its name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import torch

from biject.checkpoint.bytes import CODES, tensor_bytes
from biject.checkpoint.cast import described, used
from biject.checkpoint.content import CHUNK_BYTES, Content, Packed
from biject.checkpoint.digest import Digest, same_bytes
from biject.checkpoint.header import read_header
from biject.checkpoint.layout import Layout, PlannedFile, plan_layout
from biject.checkpoint.source import Source
from biject.checkpoint.staging import staged_folder
from biject.checkpoint.strict_json import regular_file_bytes, shown
from biject.errors import CheckpointError
from biject.events import progress

Seal = tuple[str, Callable[[Mapping[str, str]], bytes]]
"""A file that is written last, of the digests of the others."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written: the folder, and the sha256 of each file in it by relative name."""

    folder: Path
    files: Mapping[str, str]


def write_folder(
    out: Path,
    *,
    tensors: Mapping[str, torch.Tensor],
    like: Source | None,
    files: Mapping[str, Content],
    metadata: Mapping[str, str] | None = None,
    max_shard_bytes: int | None = None,
    force: bool = False,
    seal: Seal | None = None,
) -> Written:
    """Write `tensors` and `files` as a new folder at `out`, whole or not at all.

    Where names, dtypes and shapes are those of `like` (safetensors) and neither other metadata nor a shard
    size is requested, headers, shard cuts and index are `like`'s to the byte. Otherwise the files are laid
    out as the safetensors library does, in shards of at most `max_shard_bytes` (5 GB), cut as huggingface_hub
    does.

    Args:
        out: The folder to make; missing parents are made too.
        tensors: By name on disk, or a `Casting` of them. Tied ones are written once per name.
        like: The folder that this one descends from.
        files: All other files by relative name: their bytes, a path to copy from, or tensors.
        metadata: Of the safetensors headers; by default `like`'s, or ``{"format": "pt"}``.
        max_shard_bytes: Ask for a new layout in shards of this size.
        force: Replace a checkpoint folder that is at `out` already.
        seal: The name of a last file, and what makes its bytes of the sha256 of all others.

    Raises:
        CheckpointError: `out` exists or overlaps `like`, a tensor cannot be stored, the disk refuses, or what
            is on disk is not what was written. Everything is then as it was before.
        ValueError: A name in `files` leaves the folder or is taken; no tensors; a shard size below 1;
            metadata that are not strings.
    """
    out = _usable(out)
    if like is not None:
        check_apart(out, like.folder)
    layout = plan_layout(tensors, like=like, metadata=metadata, max_shard_bytes=max_shard_bytes)
    _check_names(files, layout)
    index = [layout.index_file] if layout.index_file is not None else []
    last = [seal[0]] if seal is not None else []
    names = {*files, *(planned.file for planned in layout.weights), *index, *last}
    with staged_folder(out, force=force, written=names) as folder:
        sums = {planned.file: "" for planned in layout.weights}
        for planned in layout.weights:
            _write_weights(folder / planned.file, planned, tensors)
        for name, content in files.items():
            sums[name] = _write_file(folder / name, content)
        if layout.index_file is not None:
            sums[layout.index_file] = _write_file(folder / layout.index_file, layout.index_bytes)
        for planned in layout.weights:
            sums[planned.file] = _verify_weights(folder / planned.file, planned, tensors)
        if seal is not None:
            _write_file(folder / seal[0], seal[1](dict(sorted(sums.items()))))
    return Written(folder=out, files=dict(sorted(sums.items())))


def write_files(
    out: Path, files: Mapping[str, Content], *, force: bool = False, seal: Seal | None = None
) -> Written:
    """Write a folder that has no model's weights, whole or not at all; see `write_folder`.

    Raises:
        CheckpointError: `out` exists, or the disk refuses. Everything is then as it was before.
    """
    out = _usable(out)
    names = {*files, seal[0]} if seal is not None else set(files)
    with staged_folder(out, force=force, written=names) as folder:
        sums = {name: _write_file(folder / name, content) for name, content in sorted(files.items())}
        if seal is not None:
            _write_file(folder / seal[0], seal[1](sums))
    return Written(folder=out, files=sums)


def check_apart(out: Path, read: Path, *, inside: bool = False) -> None:
    """Refuse to write over a folder that is read.

    Args:
        out: The folder to write.
        read: The one that is read.
        inside: `out` may lie in it.

    Raises:
        CheckpointError: They are one, or one contains the other.
    """
    out = _usable(out)
    try:
        source = read.resolve()
        places = (out, out.resolve())
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{shown(str(out))} is not a usable path: {error}. Choose another.") from error
    over = any(place == source or place in source.parents for place in places)
    if over or (not inside and any(source in place.parents for place in places)):
        raise CheckpointError(
            f"{out} and the folder that is read, {read}, must be separate, but one contains the other. "
            "Choose another folder to write to."
        )


def _usable(out: Path) -> Path:
    """The absolute path.

    Raises:
        CheckpointError: There can be no such one.
    """
    try:
        return _absolute(Path(out))
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL, a name too long
        raise CheckpointError(f"{shown(str(out))} is not a usable path: {error}. Choose another.") from error


def _absolute(out: Path) -> Path:
    """`out` without dots; a link at its end stays a link, as that is what would be replaced."""
    if "\0" in str(out):
        raise ValueError("it has a NUL character")
    return out.resolve() if out.name in ("", "..") else out.parent.resolve() / out.name


def _check_names(files: Mapping[str, Content], layout: Layout) -> None:
    taken = {planned.file for planned in layout.weights} | {layout.index_file}
    for name in files:
        path = PurePosixPath(name)
        if (
            not name
            or path.is_absolute()
            or ".." in path.parts
            or str(path) != name
            or "\0" in name
            or name == "."
        ):
            raise ValueError(f"{shown(name)} must be a relative name inside the folder, without dots")
        if name in taken or any(str(parent) in taken or str(parent) in files for parent in path.parents):
            raise ValueError(
                f"{shown(name)} is taken: a weight file, or another file, has this name or its parent's"
            )


def _write_weights(path: Path, planned: PlannedFile, tensors: Mapping[str, torch.Tensor]) -> None:
    shapes = described(tensors)
    total = sum(shapes[name].numel() * shapes[name].element_size() for name in planned.names)
    done = 0
    with path.open("xb") as stream:
        stream.write(planned.header)
        for name in planned.names:
            data = tensor_bytes(tensors[name])
            stream.write(data)
            done += len(data)
            del data
            used(tensors, name)
            progress(f"writing {planned.file}", done, total, unit="bytes")
        _finish(stream)


def _write_file(path: Path, content: Content) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("xb") as stream:
        for chunk in _chunks(content):
            digest.update(chunk)
            stream.write(chunk)
        _finish(stream)
    return digest.hexdigest()


def _chunks(content: Content) -> Iterator[bytes | memoryview]:
    if isinstance(content, bytes):
        yield content
        return
    if isinstance(content, Packed):
        yield from content.chunks()
        return
    regular_file_bytes(content, what=content.name)
    with content.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _finish(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _verify_weights(path: Path, planned: PlannedFile, tensors: Mapping[str, torch.Tensor]) -> str:
    """Read a weight file again, compare every tensor with what was to be written, give the file's sha256."""
    header = read_header(path)
    rooms = cycle((bytearray(CHUNK_BYTES), bytearray(CHUNK_BYTES)))  # one is read into, one summed up
    with path.open("rb") as stream, Digest(planned.header) as digest:
        if stream.read(len(planned.header)) != planned.header:
            raise _differs(planned.file, "its header")
        for info, name in zip(header.in_data_order(), planned.names, strict=True):
            tensor = tensors[name]
            same = (
                info.name == name and info.dtype == CODES[tensor.dtype] and info.shape == tuple(tensor.shape)
            )
            expected = tensor_bytes(tensor)
            for start in range(0, len(expected), CHUNK_BYTES):
                part = expected[start : start + CHUNK_BYTES]
                room = memoryview(next(rooms))
                found = room[: stream.readinto(room[: len(part)])]
                digest.update(found)
                same = same and same_bytes(found, part)
            if not same:
                raise _differs(planned.file, f"tensor {shown(name)}")
            del expected
            used(tensors, name)
            progress(f"verifying {planned.file}", info.end, header.file_bytes, unit="bytes")
        return digest.hexdigest()


def _differs(file: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"{file} was written, but {what} reads back differently from what was written. Either the disk is "
        "faulty, or the tensors were changed meanwhile. Nothing was kept: write it again."
    )
