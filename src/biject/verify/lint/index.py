"""Rules for folders that cannot be opened: an index that names tensors or files that are not there."""

from __future__ import annotations

from pathlib import Path

from biject.checkpoint.header import read_header
from biject.checkpoint.index import read_index
from biject.errors import BijectError
from biject.verify.lint.facts import error
from biject.verify.report import Finding

INDEX = "model.safetensors.index.json"


def index_entries(folder: Path) -> list[Finding]:
    """Ghost entries, shards that are not there, and tensors that the index does not name."""
    path = folder / INDEX
    if not path.is_file():
        return []
    try:
        _, weight_map = read_index(path)
        present = {file for file in set(weight_map.values()) if (folder / file).is_file()}
        stored = {file: frozenset(read_header(folder / file).tensors) for file in present}
    except BijectError:
        return []  # damaged beyond an index's entries: opening it reports that
    missing = sorted(set(weight_map.values()) - present)
    ghosts = [name for name, file in weight_map.items() if file in stored and name not in stored[file]]
    unnamed = [name for names in stored.values() for name in sorted(names) if name not in weight_map]
    advice = "fetch or export the whole folder again, index and shards of one export"
    found = []
    if missing:
        meaning = "the index names weight files that are not in the folder"
        found.append(error("shard-missing", missing, meaning, advice))
    if ghosts:
        meaning = (
            f"{INDEX} names tensors that are not in the file it names: readers fail, or start from random"
        )
        found.append(error("ghost-index-entry", ghosts, meaning, advice))
    if unnamed:
        meaning = f"weight files have tensors that {INDEX} does not name: readers do not find them"
        found.append(error("tensor-not-indexed", unnamed, meaning, advice))
    return found
