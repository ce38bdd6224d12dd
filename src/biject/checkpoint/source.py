"""A checkpoint folder on disk: its weight files, their tensors, what else is there.

Safetensors folders are described without torch; legacy `.bin` files are pickles and need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biject.checkpoint.folder import find_weights, sort_files, survey
from biject.checkpoint.header import Header, read_header
from biject.checkpoint.index import check_index, read_index
from biject.checkpoint.strict_json import MAX_CONFIG_BYTES, parse_object, read_small_file, shown
from biject.checkpoint.tensor_info import TensorInfo
from biject.errors import CheckpointError

CONFIG = "config.json"
NAMED = "transformers_weights"
"""A key of config.json: the file that transformers 5 reads in the place of the usual one."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint folder.

    Attributes:
        folder: Its path.
        format: ``safetensors`` or ``bin``.
        weight_files: The files that are read, in shard order.
        headers: By file; empty for `.bin`.
        index_file: Name of the index when sharded.
        index_bytes: That index's bytes on disk.
        tensors: Over all shards, in file order.
        config_bytes: The bytes of `config.json` on disk.
        config: The same, parsed.
        other_weights: Weight files that are not read: other formats, variants, shards that no index names.
        assets: Every other file, relative, with forward slashes.
        unread: What is there and left out: links to folders, and what is no regular file.
    """

    folder: Path
    format: str
    weight_files: tuple[str, ...]
    headers: Mapping[str, Header]
    index_file: str | None
    index_bytes: bytes | None
    tensors: Mapping[str, TensorInfo]
    config_bytes: bytes
    config: dict[str, Any]
    other_weights: tuple[str, ...]
    assets: tuple[str, ...]
    unread: tuple[str, ...] = ()


def open_source(folder: Path) -> Source:
    """Describe a checkpoint folder; no tensor data is read from safetensors files.

    Raises:
        CheckpointError: The folder, its `config.json` or its weights are missing, damaged or at odds, or
            config.json names weights that are not those that are read.
    """
    folder = Path(folder)
    files, unread = survey(folder)
    config_bytes = read_small_file(folder / CONFIG, what=CONFIG, limit=MAX_CONFIG_BYTES)
    config = parse_object(config_bytes, where=CONFIG)
    weight_format, index_file, weight_files = find_weights(folder, files)
    index_bytes, weight_map = None, None
    if index_file is not None:
        index_bytes, weight_map = read_index(folder / index_file)
        weight_files = tuple(sorted(set(weight_map.values())))
    headers: dict[str, Header] = {}
    shards: dict[str, Mapping[str, TensorInfo]] = {}
    for file in weight_files:
        if weight_format == "safetensors":
            headers[file] = read_header(folder / file)
            shards[file] = headers[file].tensors
        else:
            from biject.checkpoint.legacy import read_bin_infos

            shards[file] = read_bin_infos(folder / file)
    if weight_map is not None and index_file is not None:
        check_index(index_file, weight_map, shards)
    _check_named(folder, config.get(NAMED), index_file or weight_files[0])
    used = {CONFIG, *weight_files} | ({index_file} if index_file else set())
    other_weights, assets = sort_files([file for file in files if file not in used])
    return Source(
        folder=folder,
        format=weight_format,
        weight_files=weight_files,
        headers=headers,
        index_file=index_file,
        index_bytes=index_bytes,
        tensors=_merge(shards),
        config_bytes=config_bytes,
        config=config,
        other_weights=other_weights,
        assets=assets,
        unread=tuple(unread),
    )


def _check_named(folder: Path, named: object, read: str) -> None:
    """Refuse a folder of which transformers would read other weights than those that are read here."""
    if named is not None and named != read:
        raise CheckpointError(
            f"{folder}: config.json: `{NAMED}` is {shown(named)}, so that transformers reads that file, but "
            f"{read} is read here. Remove the key, or keep the weights that it names as {read}."
        )


def _merge(shards: Mapping[str, Mapping[str, TensorInfo]]) -> dict[str, TensorInfo]:
    merged: dict[str, TensorInfo] = {}
    for file, tensors in shards.items():
        for name, info in tensors.items():
            if name in merged:
                raise CheckpointError(
                    f"tensor {shown(name)} is in two shards, {merged[name].file} and {file}; one is "
                    "expected. Remove the shard that is not part of this model."
                )
            merged[name] = info
    return merged
