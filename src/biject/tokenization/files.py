"""The files of a folder's tokenizer, parsed and checked; nothing is built yet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from biject.checkpoint.adapter import base_folder, is_adapter, read_adapter
from biject.checkpoint.strict_json import parse_object, read_small_file, shown
from biject.errors import CheckpointError

SETTINGS = "tokenizer_config.json"
SPECIAL_MAP = "special_tokens_map.json"
ADDED = "added_tokens.json"
SERIALIZED = "tokenizer.json"
TEMPLATE = "chat_template.jinja"
TEMPLATES = "additional_chat_templates"
GENERIC_MODEL = "tokenizer.model"
"""What a SentencePiece model is called where the class has no name of its own for it."""

_SENTENCEPIECE = ("spiece.model", "spm.model", "sentencepiece.bpe.model", GENERIC_MODEL)
VOCABULARIES = ("vocab.txt", "vocab.json", *_SENTENCEPIECE)

_VERSIONED = re.compile(r"tokenizer\.(\d+(?:\.\d+)*)\.json")


class MissingTokenizerError(CheckpointError):
    """A folder has no vocabulary that its tokenizer's class reads."""


def tokenizer_folder(folder: Path, *, base: Path | None = None) -> Path:
    """Where the tokenizer of a checkpoint's or an adapter's folder is: there, or with the adapter's base.

    Args:
        folder: Of the checkpoint or adapter.
        base: Of the adapter; the one that it names where left out.

    Raises:
        CheckpointError, ConfigError: The adapter or its base cannot be read.
    """
    if not is_adapter(folder) or any((folder / name).is_file() for name in (SERIALIZED, *VOCABULARIES)):
        return folder
    return base_folder(read_adapter(folder)) if base is None else base


@dataclass(frozen=True, kw_only=True)
class TokenizerFiles:
    """A folder's tokenizer files; a file that is not there is None."""

    folder: Path
    settings: Mapping[str, Any] | None
    special_map: Mapping[str, Any] | None
    added: Mapping[str, Any] | None
    serialized: Mapping[str, Any] | None
    """tokenizer.json, parsed."""
    serialized_name: str
    templates: Mapping[str, str]
    """Chat templates that are files of their own, by name; the main one is `default`."""

    def has(self, name: str) -> bool:
        """Whether the folder has this regular file."""
        return (self.folder / name).is_file()

    @property
    def vocabularies(self) -> tuple[str, ...]:
        """The vocabulary files that are there."""
        return tuple(name for name in VOCABULARIES if self.has(name))


def read_files(folder: Path) -> TokenizerFiles:
    """Read all of a tokenizer's JSON files and chat templates.

    Raises:
        CheckpointError: One of them is damaged or out of reach.
    """
    settings = _object(folder, SETTINGS)
    name = _serialized_name(settings)
    return TokenizerFiles(
        folder=folder,
        settings=settings,
        special_map=_object(folder, SPECIAL_MAP),
        added=_object(folder, ADDED),
        serialized=_object(folder, name),
        serialized_name=name,
        templates=_templates(folder),
    )


def _object(folder: Path, name: str) -> dict[str, Any] | None:
    path = folder / name
    if not path.exists():
        return None
    return parse_object(read_small_file(path, what=name), where=str(path))


def _serialized_name(settings: Mapping[str, Any] | None) -> str:
    """`tokenizer.json`, or the newest of `fast_tokenizer_files`, which some folders version."""
    listed = (settings or {}).get("fast_tokenizer_files")
    if not isinstance(listed, list):
        return SERIALIZED
    found = {}
    for name in listed:
        match = _VERSIONED.fullmatch(name) if isinstance(name, str) else None
        if match:
            found[tuple(int(part) for part in match[1].split("."))] = match[0]
    return found[max(found)] if found else SERIALIZED


def _templates(folder: Path) -> dict[str, str]:
    paths = {"default": folder / TEMPLATE}
    paths.update({path.stem: path for path in sorted((folder / TEMPLATES).glob("*.jinja"))})
    return {name: _text(path) for name, path in paths.items() if path.exists()}


def _text(path: Path) -> str:
    try:
        return read_small_file(path, what=path.name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} must be UTF-8 text; byte {error.start} is not.") from error


def mapping(value: object, *, key: str, where: str) -> dict[str, Any]:
    """`value`, if it is a JSON object.

    Raises:
        CheckpointError: It is something else.
    """
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: {shown(key)} must be an object, found {shown(value)}.")
    return value


def template_name(name: str) -> str:
    """The path of a chat template, relative to the folder."""
    return TEMPLATE if name == "default" else str(PurePosixPath(TEMPLATES) / f"{name}.jinja")
