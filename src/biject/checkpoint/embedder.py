"""What sentence-transformers keeps beside a model: modules.json, and the files that make an embedder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from biject.checkpoint.source import Source
from biject.checkpoint.strict_json import parse_object, read_small_file
from biject.errors import CheckpointError

MODULES = "modules.json"
_FILES = {MODULES, "config_sentence_transformers.json", "sentence_bert_config.json", "data_config.json"}


def read_modules(folder: Path) -> list[Any]:
    """The entries of modules.json; `[None]` where it is no list.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / MODULES
    data = read_small_file(path, what=MODULES)
    modules = parse_object(b'{"modules": %b}' % data, where=str(path))["modules"]  # the file is a list
    return modules if isinstance(modules, list) else [None]


def embedder_files(source: Source) -> tuple[str, ...]:
    """A folder's files of sentence-transformers, which would make an embedder of what is written with another
    head.
    """
    if MODULES not in source.assets:
        return ()
    try:
        entries = [entry for entry in read_modules(source.folder) if isinstance(entry, dict)]
    except CheckpointError:  # what cannot be read names no folders
        entries = []
    folders = tuple(f"{entry['path']}/" for entry in entries if entry.get("path"))
    return tuple(name for name in source.assets if name in _FILES or name.startswith(folders))
