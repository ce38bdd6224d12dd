"""What an export declares of itself in `biject.json`."""

from __future__ import annotations

from biject.checkpoint.source import Source
from biject.checkpoint.strict_json import MAX_CONFIG_BYTES, parse_object, read_small_file
from biject.errors import CheckpointError
from biject.save import RECORD


def declared_new(source: Source) -> frozenset[str]:
    """Tensors that the folder declares new and random; none where it declares nothing that can be read."""
    if RECORD not in source.assets:
        return frozenset()
    try:
        data = read_small_file(source.folder / RECORD, what=RECORD, limit=MAX_CONFIG_BYTES)
        names = parse_object(data, where=RECORD).get("new_parameters")
    except CheckpointError:
        return frozenset()
    return (
        frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()
    )
