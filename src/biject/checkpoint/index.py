"""The index of a sharded checkpoint: which tensor is in which file, and do the files agree? No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from biject.checkpoint.strict_json import MAX_INDEX_BYTES, parse_object, read_small_file, shown
from biject.checkpoint.tensor_info import TensorInfo
from biject.errors import CheckpointError


def read_index(path: Path) -> tuple[bytes, dict[str, str]]:
    """The index's bytes on disk, and its map from tensor names to file names.

    Raises:
        CheckpointError: It is damaged, or an entry is not the plain name of a file beside it.
    """
    file = path.name
    raw = read_small_file(path, what=file, limit=MAX_INDEX_BYTES)
    weight_map = parse_object(raw, where=file).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(
            f"{file} needs a weight_map from tensor names to file names, found {shown(weight_map)}. Fetch it "
            "again."
        )
    for name, shard in weight_map.items():
        if not is_plain_name(shard):
            raise CheckpointError(
                f"{file}: tensor {shown(name)} must be mapped to the plain name of a file in the same "
                f"folder, found {shown(shard)}. A path that leaves the folder is never followed."
            )
    return raw, weight_map


def is_plain_name(value: object) -> bool:
    """Whether `value` can name a file in one folder: no separators, dots alone or control characters."""
    return (
        isinstance(value, str)
        and value not in ("", ".", "..")
        and len(value) <= 255
        and not any(char in "/\\:" or not char.isprintable() for char in value)
    )


def check_index(
    file: str, weight_map: Mapping[str, str], shards: Mapping[str, Mapping[str, TensorInfo]]
) -> None:
    """Each tensor is in exactly the shard that the index names, and the index names each.

    Raises:
        CheckpointError: It does not.
    """
    advice = "Index and shards are not of one export: fetch the whole folder again."
    for name, shard in weight_map.items():
        if name not in shards[shard]:
            from difflib import get_close_matches  # costly to import, seldom needed

            elsewhere = [other for other, tensors in shards.items() if name in tensors]
            near = get_close_matches(
                name[:300], [other for other in shards[shard] if len(other) <= 300][:2000], n=1
            )
            hint = f"it is in {elsewhere[0]}" if elsewhere else f"no shard has it{_nearest(near)}"
            raise CheckpointError(f"{file} lists tensor {shown(name)} in {shard}, but {hint}. {advice}")
    for shard, tensors in shards.items():
        for name in tensors:
            if name not in weight_map:
                raise CheckpointError(
                    f"{shard} has tensor {shown(name)}, which {file} does not name. {advice}"
                )
            if weight_map[name] != shard:
                raise CheckpointError(
                    f"tensor {shown(name)} is in two shards, {weight_map[name]} (by {file}) and "
                    f"{shard}. {advice}"
                )


def _nearest(names: list[str]) -> str:
    return f" (nearest there: {shown(names[0])})" if names else ""
