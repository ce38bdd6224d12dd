"""The tokenizer of a folder: ours where it is known id for id, else transformers' under our calls."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biject.checkpoint.strict_json import MAX_CONFIG_BYTES, parse_object, read_small_file
from biject.errors import CheckpointError
from biject.fallback.library import quiet, transformers
from biject.fallback.slow import SlowBackend, SlowTokenizer
from biject.tokenization.classes import GENERIC, class_of
from biject.tokenization.files import SETTINGS, TokenizerFiles, read_files, tokenizer_folder
from biject.tokenization.finish import Parts
from biject.tokenization.recipes import RECIPES
from biject.tokenization.settings import ROLES
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

_CONFIG = "config.json"
_NOT_READ = (
    ".py", ".safetensors", ".bin", ".pt", ".pth", ".pkl", ".pickle", ".h5", ".msgpack", ".gguf", ".onnx",
)  # fmt: skip
"""Code, weights and pickles: no tokenizer needs them."""


def load_fallback_tokenizer(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a folder whose architecture need not be one of ours.

    Args:
        folder: Of a checkpoint or an adapter.
        config: config.json.

    Raises:
        CheckpointError: Files are missing or damaged.
        ConfigError: transformers cannot build it.
    """
    place = tokenizer_folder(folder)
    files = read_files(place)
    name = class_of(files, config)
    if name in RECIPES or (name == GENERIC and files.serialized is not None):
        return load_tokenizer(folder, config)
    return _by_transformers(files, place, config)


def _by_transformers(files: TokenizerFiles, folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    with _staged(folder, config) as place, quiet(f"{folder}: transformers cannot build its tokenizer"):
        found = transformers().AutoTokenizer.from_pretrained(
            place, trust_remote_code=False, local_files_only=True
        )
    _check_files(found, files, folder)
    fast = bool(found.is_fast)
    backend: Any = found.backend_tokenizer if fast else SlowBackend(found)
    parts = Parts(
        files=files,
        class_name=type(found).__name__,
        backend=backend,
        roles={role: getattr(found, role, None) for role in ROLES},
        extra=[token for token in found.all_special_tokens if token is not None],
        options={
            "model_max_length": found.model_max_length,
            "clean_up_tokenization_spaces": bool(getattr(found, "clean_up_tokenization_spaces", False)),
            "chat_template": found.chat_template,
        },
        segments="token_type_ids" in found.model_input_names,
        highest_id=None if fast else int(found.vocab_size) - 1,
        padding_side=found.padding_side,
        truncation_side=found.truncation_side,
    )
    return Tokenizer(parts) if fast else SlowTokenizer(found, parts)


def _check_files(found: Any, files: TokenizerFiles, folder: Path) -> None:
    """Refuse a tokenizer whose vocabulary is not there: transformers makes one up of its special tokens."""
    names = dict(type(found).vocab_files_names)
    serialized = names.pop("tokenizer_file", None)
    if files.serialized is not None or all(files.has(name) for name in names.values()):
        return
    expected = " or ".join([" + ".join(names.values()), *([serialized] if serialized else [])])
    raise CheckpointError(
        f"{folder}: {type(found).__name__} is built from {expected}, which the folder does not have. Put the "
        "files there that the model was trained with."
    )


@contextmanager
def _staged(folder: Path, config: Mapping[str, Any]) -> Iterator[Path]:
    """A folder with the tokenizer's files alone; nothing in it names code."""
    with tempfile.TemporaryDirectory(prefix="biject-tokenizer-") as temporary:
        place = Path(temporary)
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.suffix not in _NOT_READ and path.name not in (_CONFIG, SETTINGS):
                (place / path.name).symlink_to(path.resolve())
        _write(place / _CONFIG, config)
        if (folder / SETTINGS).is_file():
            read = read_small_file(folder / SETTINGS, what=SETTINGS, limit=MAX_CONFIG_BYTES)
            _write(place / SETTINGS, parse_object(read, where=SETTINGS))
        yield place


def _write(path: Path, values: Mapping[str, Any]) -> None:
    kept = {key: value for key, value in values.items() if key != "auto_map"}
    path.write_text(json.dumps(kept), encoding="utf-8")
