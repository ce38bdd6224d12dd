"""What a run depends on and a checkpoint consists of, as sha256: checked before a run is resumed.

`checkpoint.json` is a checkpoint's last file: the digest of each of its other files, and of what the run was
made from: config, tokenizer and weights of the model's source, samples to train and to evaluate on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from biject.checkpoint.run_files import MANIFEST
from biject.checkpoint.source import CONFIG, Source
from biject.checkpoint.strict_json import parse_object, read_small_file, shown
from biject.errors import CheckpointError
from biject.events import notice
from biject.tokenization.files import ADDED, SERIALIZED, SETTINGS, SPECIAL_MAP, TEMPLATE, VOCABULARIES

VERSION = 1
TRAINING, EVALUATION = "training data", "evaluation data"
SOURCE = "source/"
_TOKENIZER = frozenset((ADDED, SERIALIZED, SETTINGS, SPECIAL_MAP, TEMPLATE, "merges.txt", *VOCABULARIES))


def file_digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal.

    Raises:
        CheckpointError: it cannot be read, or is no file.
    """
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} is gone, or is no file.")
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error


def source_digests(model: nn.Module) -> dict[str, str]:
    """Of the folder that a model was loaded from: config, tokenizer, weights; empty where there is none."""
    source = source_of(model)
    if source is None:
        return {}
    names = [CONFIG, *source.weight_files, *(name for name in source.assets if name in _TOKENIZER)]
    return {f"{SOURCE}{name}": file_digest(source.folder / name) for name in names}


def source_of(model: nn.Module) -> Source | None:
    """The folder that a model was loaded from, if it says so."""
    found = getattr(model, "source", None)
    return found if isinstance(found, Source) else None


def data_digest(dataset: Any) -> str | None:
    """sha256 of all samples, where they are plain values in memory; None for data that is made on the way."""
    digest = hashlib.sha256()
    try:
        if hasattr(dataset, "digest_into"):
            dataset.digest_into(digest)
        elif isinstance(dataset, list | tuple):
            _feed(dataset, digest)
        elif isinstance(getattr(dataset, "_fingerprint", None), str):  # datasets.Dataset keeps its own
            _feed(dataset._fingerprint, digest)
        else:
            return None
    except TypeError:
        return None
    return digest.hexdigest()


def _feed(value: Any, digest: Any) -> None:
    """Add a value with its type and length, so that no two values look alike."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu().contiguous()
        digest.update(f"tensor {plain.dtype} {tuple(plain.shape)} ".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)} ".encode())
        for key, inner in value.items():
            _feed(key, digest)
            _feed(inner, digest)
    elif isinstance(value, list | tuple):
        digest.update(f"list {len(value)} ".encode())
        for inner in value:
            _feed(inner, digest)
    elif value is None or isinstance(value, str | bytes | int | float | bool):
        text = repr(value).encode()
        digest.update(f"{type(value).__name__} {len(text)} ".encode() + text)
    else:
        raise TypeError(f"{type(value).__name__} is no plain value")


def manifest(step: int, depends: Mapping[str, str]) -> dict[str, Any]:
    """What `checkpoint.json` says besides the digests of files."""
    return {"version": VERSION, "step": step, "depends": dict(depends)}


def read_manifest(folder: Path) -> Mapping[str, Any] | None:
    """`checkpoint.json` of a checkpoint, None where an older Biject wrote none.

    Raises:
        CheckpointError: it is damaged.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    found = parse_object(read_small_file(path, what=MANIFEST), where=str(path))
    parts = [found.get("files"), found.get("depends")]
    if found.get("version") != VERSION or not all(map(_is_names, parts)):
        raise CheckpointError(f"{path} is damaged, or was written by another version of Biject.")
    return found


def _is_names(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


def check_files(folder: Path, *, expected: bool) -> Mapping[str, str]:
    """Compare every file of a checkpoint with its digest; what the run depended on.

    Args:
        folder: of the checkpoint.
        expected: its state says that there is a manifest.

    Raises:
        CheckpointError: a file has other content, is gone, or was not there.
    """
    found = read_manifest(folder)
    other = "Resume from another checkpoint, or begin the run anew."
    if found is None:
        if expected:
            raise CheckpointError(
                f"{folder / MANIFEST} is gone: nothing tells whether files changed. {other}"
            )
        notice("no-manifest", f"{folder} is an older Biject's, without digests: its files are not checked.")
        return {}
    for name, digest in found["files"].items():
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise CheckpointError(f"{folder / MANIFEST} is damaged: it names {shown(name)}. {other}")
        if file_digest(folder / name) != digest:
            raise CheckpointError(
                f"{folder / name} is not what the run wrote: its sha256 is not the one in {MANIFEST}. {other}"
            )
    strange = sorted(set(_files(folder)) - set(found["files"]) - {MANIFEST})
    if strange:
        raise CheckpointError(
            f"{folder} has a file that the run did not write: {shown(strange[0])}. Remove it, or resume from "
            "another checkpoint."
        )
    depends: Mapping[str, str] = found["depends"]
    return depends


def _files(folder: Path) -> Iterable[str]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if not path.is_dir() and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix()


def check_depends(
    before: Mapping[str, str], now: Mapping[str, str], folder: Path, *, source: Path | None
) -> None:
    """Compare what a run depended on with what it would go on with.

    Args:
        before: from the checkpoint.
        now: the same names where they are known; others are passed over.
        folder: of the checkpoint.
        source: the folder that the model was loaded from.

    Raises:
        CheckpointError: something changed.
    """
    if source is not None and source.resolve() == folder.resolve():
        before = {name: digest for name, digest in before.items() if not name.startswith(SOURCE)}
    for name, digest in before.items():
        if name.startswith(SOURCE) and source is not None and now.get(name) != digest:
            place, what = source / name.removeprefix(SOURCE), "the file that the run began with"
            word = "is gone" if name not in now else f"is not {what}"
            raise CheckpointError(
                f"{place} {word}, so {folder} cannot be resumed with it. Put the file back, or begin anew."
            )
        if now.get(name, digest) != digest:
            raise CheckpointError(
                f"The {name} changed since {folder} was written. Give the same samples, or begin anew."
            )


def to_bytes(values: Mapping[str, Any], files: Mapping[str, str]) -> bytes:
    """The text of `checkpoint.json`."""
    return (json.dumps({**values, "files": dict(files)}, indent=1) + "\n").encode()
