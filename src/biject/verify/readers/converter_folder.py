"""What llama.cpp's converter may see of a folder: no code, and nothing that asks for any.

It opens tokenizers with `AutoTokenizer.from_pretrained(folder, trust_remote_code=True)`, which runs the
Python files that `auto_map` names, of the folder or of a repository.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from biject.checkpoint.source import CONFIG, Source
from biject.checkpoint.strict_json import read_small_file

_READ = (".json", ".jinja", ".model", ".txt")
"""Ends of the names of vocabularies, settings, templates, and what says how an embedder pools."""
_CODE = "auto_map"


def stage(source: Source, folder: Path, *, class_name: str) -> None:
    """Fill an empty folder with links to the weights and with copies of the tokenizer's files and settings.

    Args:
        source: The folder that is converted.
        folder: Where to.
        class_name: What `architectures` names there: the converter takes a program by it.
    """
    index = [source.index_file] if source.index_file is not None else []
    for name in (*source.weight_files, *index):
        (folder / name).symlink_to((source.folder / name).resolve())
    config = {**without_code(source.config), "architectures": [class_name]}
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    for name in source.assets:
        if not name.endswith(_READ):
            continue
        data = _harmless(name, read_small_file(source.folder / name, what=name))
        if data is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)


def without_code(value: Any) -> Any:
    """JSON without `auto_map`, at any depth."""
    if isinstance(value, dict):
        return {key: without_code(one) for key, one in value.items() if key != _CODE}
    return [without_code(one) for one in value] if isinstance(value, list) else value


def _harmless(name: str, data: bytes) -> bytes | None:
    """A file's bytes; of JSON without what names code, and None where it cannot be told."""
    if not name.endswith(".json"):
        return data
    try:
        value = json.loads(data.decode("utf-8"))
        clean = without_code(value)
    except (ValueError, RecursionError):
        return None
    return data if clean == value else json.dumps(clean).encode()
