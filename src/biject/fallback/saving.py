"""Export: transformers writes the tensors under its own names, we put them into a folder whole or not at all.

config.json keeps what did not change, assets are copied, and `biject.json` declares the differences.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from biject.checkpoint.bytes import CODES, DTYPES
from biject.checkpoint.cast import Casting
from biject.checkpoint.content import Content
from biject.checkpoint.exchange import sibling
from biject.checkpoint.reader import Reader
from biject.checkpoint.run_files import run_files
from biject.checkpoint.source import CONFIG, NAMED, Source, open_source
from biject.checkpoint.staging import os_errors
from biject.checkpoint.writer import Seal, write_folder
from biject.errors import CheckpointError, ConfigError
from biject.fallback.adapter import refill, save_adapter
from biject.fallback.body import FallbackBody
from biject.fallback.building import build
from biject.fallback.library import quiet
from biject.identify import architecture_of
from biject.record import RECORD, Record
from biject.save import Saved
from biject.saved_config import dump_like

_CARD = "README.md"
_KEYS = ("model_type", "id2label", "label2id", "problem_type", "num_labels")
_ABSENT = object()


def save_fallback(
    model: FallbackBody,
    out: Path,
    *,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int | None = None,
    force: bool = False,
    extra: Mapping[str, Content] | None = None,
    without: Collection[str] = (),
    seal: Seal | None = None,
) -> Saved:
    """Write a model as a complete Hugging Face folder, atomically; arguments as of `save_model`.

    Raises:
        ConfigError: There are adapters.
        CheckpointError: The folder cannot be written; everything is as it was.
    """
    if model.adapters is not None:
        raise ConfigError(
            "The model has an adapter, which a checkpoint of its class cannot hold: save_adapter(folder) "
            "writes the adapter alone, merge_adapter() first makes it part of the model."
        )
    source = model.source
    with _written(model, out) as made:
        reader = Reader(made)
        tensors = Casting((name, reader.tensor(name), _target(made, name, dtype)) for name in made.tensors)
        config, keys, lines = _config_bytes(model, tensors.described)
        kept, left = _assets(source, without, seal)
        files: dict[str, Content] = {CONFIG: config}
        files |= {name: source.folder / name for name in kept}
        files |= extra or {}
        record = _record(model, tensors.described, keys, left, files)
        if record:
            files[RECORD] = record.on(Record.read(source.folder)).to_bytes()
        written = write_folder(
            out, tensors=tensors, like=made, files=files, max_shard_bytes=max_shard_bytes, force=force,
            seal=seal,
        )  # fmt: skip
    lines += [f"left out: {name} (no part of {model.class_name})" for name in record.left_out]
    lines += [f"new, random: {name}" for name in record.new_parameters]
    return Saved(
        folder=written.folder,
        files=written.files,
        changes=(*lines, *(f"left out: {name}" for name in left)),
        architecture=model.class_name,
        weight_bytes=sum(t.numel() * t.element_size() for t in tensors.described.values()),
    )


@contextmanager
def _written(model: FallbackBody, out: Path) -> Iterator[Source]:
    """What transformers' `save_pretrained` writes, beside `out` for the length of the block."""
    place = sibling(out, "new", secrets.token_hex(4)) if out.parent.is_dir() else None
    with (
        os_errors(out),
        tempfile.TemporaryDirectory(
            dir=None if place is None else place.parent, prefix="biject-" if place is None else place.name
        ) as folder,
    ):
        with quiet(f"transformers cannot write {model.class_name}"):
            model.hf.save_pretrained(folder)
        yield open_source(Path(folder))


def _target(made: Source, name: str, dtype: torch.dtype | None) -> torch.dtype:
    own = DTYPES[made.tensors[name].dtype]
    return dtype if dtype is not None and own.is_floating_point else own


def _config_bytes(
    model: FallbackBody, tensors: Mapping[str, torch.Tensor]
) -> tuple[bytes, dict[str, Any], list[str]]:
    """config.json with the changed keys set, those keys, and a line for each."""
    source, before = model.source, model.source.config
    changes: dict[str, Any] = {"architectures": [model.class_name]}
    if model.class_name == architecture_of(before):
        changes["architectures"] = before["architectures"]
    floating = {t.dtype for t in tensors.values() if t.is_floating_point()}
    named = {DTYPES[info.dtype] for info in source.tensors.values() if DTYPES[info.dtype].is_floating_point}
    if len(floating) == 1 and floating != named:
        key = "torch_dtype" if "torch_dtype" in before and "dtype" not in before else "dtype"
        changes[key] = str(next(iter(floating))).removeprefix("torch.")
    changes |= {key: model.hf_config.get(key) for key in _KEYS}
    changes |= {NAMED: None} if NAMED in before else {}  # the files are HF's own
    changes = {key: value for key, value in changes.items() if before.get(key) != value}
    if not changes:
        return source.config_bytes, {}, []
    gone = {key for key, value in changes.items() if value is None}
    patched = {key: value for key, value in {**before, **changes}.items() if key not in gone}
    lines = [f"config.json: {key} = {value!r}"[:300] for key, value in changes.items()]
    return dump_like(patched, source.config_bytes), changes, lines


def _assets(source: Source, without: Collection[str], seal: Seal | None) -> tuple[list[str], list[str]]:
    """Other files to copy, and those left out: the weights have changed or are laid out anew."""
    run = run_files(source.assets)
    left = [name for name in source.assets if name in run or name in without or name == _CARD]
    kept = [name for name in source.assets if name not in left and name != RECORD]
    return [name for name in kept if seal is None or name != seal[0]], [*left, *source.other_weights]


def _record(
    model: FallbackBody,
    tensors: Mapping[str, torch.Tensor],
    keys: Mapping[str, Any],
    left: Collection[str],
    files: Mapping[str, Content],
) -> Record:
    """Every difference from the source that the written folder has."""
    source = model.source
    both = [name for name in tensors if name in source.tensors and tensors[name].is_floating_point()]
    changed = {tensors[n].dtype for n in both if CODES[tensors[n].dtype] != source.tensors[n].dtype}
    target = next(iter(changed)) if len(changed) == 1 else None
    changes = dict.fromkeys(left, "left out")
    for name, content in files.items():
        if not isinstance(content, Path) and name != CONFIG:
            changes[name] = "changed" if (source.folder / name).is_file() else "added"
    own = model.identity.head == model.identity.file_head and not model.fresh
    return Record(
        head="" if own else model.head_name,
        new_parameters=tuple(name for name in model.fresh if name in tensors),
        left_out=tuple(name for name in source.tensors if name not in tensors),
        cast="" if target is None else str(target).removeprefix("torch."),
        config=dict(keys),
        files=changes,
    )


def write_checkpoint(
    model: FallbackBody,
    folder: Path,
    state: Mapping[str, Content],
    *,
    without: Collection[str],
    seal: Seal | None,
) -> None:
    """Write a run's checkpoint: a model's folder, or of one with an adapter PEFT's, which has nothing of the
    base.
    """
    if model.adapters is not None:
        save_adapter(model, folder, force=True, extra=state, seal=seal)
    else:
        save_fallback(model, folder, force=True, extra=state, without=without, seal=seal)


def read_checkpoint(model: FallbackBody, folder: Path) -> None:
    """Put a checkpoint's weights into the model, in place; transformers reads its names, so that there are
    two models for a while.

    Raises:
        CheckpointError: It is damaged, or of another model.
    """
    if model.adapters is not None:
        refill(model, folder)
        return
    source = open_source(folder)
    found, fresh, left_out = build(model.identity, source, model.dtype, new=False)
    if fresh or left_out:
        raise CheckpointError(f"{folder} is of another model: {', '.join((*fresh, *left_out)[:5])}.")
    stored = found.state_dict()
    with torch.no_grad():
        for name, target in model.hf.state_dict().items():
            target.copy_(stored[name])
