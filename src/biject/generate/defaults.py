"""A checkpoint folder's settings for generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biject.checkpoint.strict_json import MAX_CONFIG_BYTES, parse_object, read_small_file

FILE = "generation_config.json"


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Values by HF's names, and the file that they are from."""

    values: Mapping[str, Any]
    where: str


def read_defaults(folder: Path, hf_config: Mapping[str, Any]) -> Defaults:
    """Those of generation_config.json, or where there is none of config.json, as HF reads them.

    Raises:
        CheckpointError: The file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return Defaults(values=hf_config, where="config.json")
    data = read_small_file(path, what=FILE, limit=MAX_CONFIG_BYTES)
    return Defaults(values=parse_object(data, where=FILE), where=FILE)
