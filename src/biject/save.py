"""Save: the original is kept, only what changed is patched.

A model that nothing changed is written byte for byte as it came, file by file. What did change (a
head, a dtype, the weights) is normalised or left out, and every such change is listed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from biject.checkpoint.bytes import CODES, DTYPES, tensor_bytes
from biject.checkpoint.cast import Casting, kept_dtype
from biject.checkpoint.content import Content
from biject.checkpoint.embedder import embedder_files
from biject.checkpoint.folder import is_trainer_state
from biject.checkpoint.hub_content import sha256_of
from biject.checkpoint.reader import Reader
from biject.checkpoint.run_files import run_files
from biject.checkpoint.source import CONFIG, Source
from biject.checkpoint.writer import Seal, write_folder
from biject.model import Model
from biject.parameters import Staged, Whole, adapter_files, bound_parameters, on_first_rank
from biject.quantize import refuse_saving
from biject.record import RECORD, Record
from biject.saved_config import ABSENT, architecture_of, config_bytes

_CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What was written, and what is not as it came."""

    folder: Path
    files: Mapping[str, str]
    """sha256 by relative name."""
    changes: tuple[str, ...]
    architecture: str
    weight_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "folder": str(self.folder),
            "files": dict(self.files),
            "changes": list(self.changes),
            "architecture": self.architecture,
            "weight_bytes": self.weight_bytes,
        }


def save_model(
    model: Model,
    out: Path,
    *,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int | None = None,
    force: bool = False,
    extra: Mapping[str, Content] | None = None,
    without: Collection[str] = (),
    seal: Seal | None = None,
    released: bool = False,
    staged: Staged | None = None,
) -> Saved:
    """Write a model as a complete Hugging Face folder, atomically.

    Args:
        model: what to write.
        out: a folder that does not exist yet.
        dtype: cast every floating tensor; None keeps each tensor's own.
        max_shard_bytes: cut the weights anew; None keeps the file's cuts.
        force: replace `out` if it exists.
        extra: further files to write into the folder, by name.
        without: assets of the source that are not copied.
        seal: a last file of the digests of all others; see `write_folder`.
        released: nobody else has the model: what is read of mapped files is given back tensor by tensor.
        staged: copies of the weights, which are written in the place of the model's own.

    Raises:
        CheckpointError: the folder cannot be written; everything is as it was.
        WeightsError: the model holds a parameter that neither the checkpoint nor a declared adapter knows,
            or codes instead of weights.

    Of a model that is spread over ranks all have to call this; the first one writes.
    """
    refuse_saving(model)
    if staged is None:
        staged = Staged(values={name: value.detach() for name, value in bound_parameters(model).items()})
    values = staged.values
    return on_first_rank(
        model,
        values,
        lambda whole: _write(
            model, values, whole, out, dtype, max_shard_bytes, force, extra or {}, without, seal, released
        ),
        group=staged.group,
    )


def _write(
    model: Model,
    values: Mapping[str, torch.Tensor],
    whole: Whole | None,
    out: Path,
    dtype: torch.dtype | None,
    max_shard_bytes: int | None,
    force: bool,
    extra: Mapping[str, Content],
    without: Collection[str],
    seal: Seal | None,
    released: bool,
) -> Saved:
    reader = Reader(model.source)
    tensors, changes = _tensors(model, values, reader, dtype, whole, released)
    changed_weights = _weights_changed(model, reader, tensors)
    relaid = max_shard_bytes is not None or model.source.format == "bin"
    config, config_changes = config_bytes(model, tensors.described, relaid=relaid)
    files: dict[str, Content] = {"config.json": config}
    kept, left_out = _assets(model, changed_weights)
    kept = [name for name in kept if name not in without and (seal is None or name != seal[0])]
    files.update({name: model.source.folder / name for name in kept})
    files.update(adapter_files(model, values, whole))
    files.update(extra)
    record = _record(model, tensors.described, config, {**files, seal[0]: b""} if seal else files)
    if record:
        before = Record.read(model.source.folder)
        record = replace(record, replaced=_replaced(reader, model.source, record, before))
        files[RECORD] = record.on(before).to_bytes()
    changes += [*config_changes, *left_out]
    if model.source.format == "bin":
        changes.append(f"weights: {', '.join(model.source.weight_files)} written as safetensors")
    if max_shard_bytes is not None:
        changes.append(f"weights: cut into files of at most {max_shard_bytes} bytes")
    written = write_folder(
        out,
        tensors=tensors,
        like=model.source,
        files=files,
        max_shard_bytes=max_shard_bytes,
        force=force,
        seal=seal,
    )
    return Saved(
        folder=written.folder,
        files=written.files,
        changes=tuple(changes),
        architecture=architecture_of(model),
        weight_bytes=sum(t.numel() * t.element_size() for t in tensors.described.values()),
    )


def _tensors(
    model: Model,
    values: Mapping[str, torch.Tensor],
    reader: Reader,
    dtype: torch.dtype | None,
    whole: Whole | None,
    released: bool,
) -> tuple[Casting, list[str]]:
    """Every tensor to write, by its name on disk, in file order; and what is left out or cast."""
    plan, dtypes, source = model.provenance.plan, model.provenance.dtypes, model.source
    held = model.dtype
    as_read = held == model.file_dtype
    out: dict[str, tuple[torch.Tensor, torch.dtype]] = {}
    for binding in (*plan.bindings, *plan.initialized):
        parameter = values[binding.memory]
        for name in binding.disk:
            own = DTYPES[dtypes[name]] if as_read and name in dtypes and binding in plan.bindings else held
            out[name] = (parameter, dtype or kept_dtype(parameter, own, whole))
    changes = []
    for name in plan.passthrough:
        if model.provenance.keeps_head or _of_base(model, name):
            tensor = _passthrough(model, reader, name)
            out[name] = (tensor, dtype if dtype and tensor.is_floating_point() else tensor.dtype)
        elif name not in out:
            changes.append(f"left out: {name}")
    trained = set(model.provenance.merged.get("parameters", ()))
    changes += [
        f"{'new, from the adapter' if binding.memory in trained else 'new, random'}: {name}"
        for binding in plan.initialized
        for name in binding.disk
    ]
    count = len(trained - {binding.memory for binding in plan.initialized})
    changes += [f"merged: an adapter into {count} parameters"] if count else []
    ordered = {name: out[name] for name in model.source.tensors if name in out}
    ordered.update(out)
    changes += [
        f"{name}: {source.tensors[name].shape[0]} -> {len(tensor)} rows"
        for name, (tensor, _) in ordered.items()
        if name in source.tensors and tuple(tensor.shape) != source.tensors[name].shape
    ]
    cast = sum(name in dtypes and CODES[to] != dtypes[name] for name, (_, to) in ordered.items())
    if cast:
        changes.append(f"cast to {str(dtype or held).removeprefix('torch.')}: {cast} tensors")
    if plan.respelt:
        one = next(iter(plan.respelt))
        changes.append(f"renamed: {len(plan.respelt)} tensors, e.g. {one} -> {plan.written(one)}")
    written = ((plan.written(name), tensor, to) for name, (tensor, to) in ordered.items())
    return Casting(written, whole, released=released), changes


def _of_base(model: Model, name: str) -> bool:
    """Whether a tensor that no head computes is a parameter of HF's base model all the same."""
    return name.removeprefix(model.provenance.plan.spelling.prefix) in model.family.kept


def _passthrough(model: Model, reader: Reader, name: str) -> torch.Tensor:
    """A tensor that the head does not use, with as many rows as there are tokens if it had a row a token."""
    tensor = reader.tensor(name)
    if model.config.embedding.patches is not None:
        return tensor
    if model.tokens.num_embeddings == model.source.config.get("vocab_size"):
        return tensor
    from biject.resize import resized_passthrough

    tokens = next(b.disk[0] for b in model.provenance.plan.bindings if b.memory == "embed.tokens.weight")
    resized = resized_passthrough(model, tensor, reader.tensor(tokens))
    return tensor if resized is None else resized


def _weights_changed(model: Model, reader: Reader, tensors: Casting) -> bool:
    """Whether any tensor differs from the file's; only asked where something depends on it."""
    if all(map(is_trainer_state, model.source.other_weights)) and _CARD not in model.source.assets:
        return False
    if set(tensors) != set(model.source.tensors):
        return True
    for name in tensors:
        original = reader.tensor(name)
        if original.dtype != tensors.described[name].dtype:
            return True
        tensor = tensors[name]
        if tuple(original.shape) != tuple(tensor.shape) or tensor_bytes(original) != tensor_bytes(tensor):
            return True
        reader.forget(name)
        tensors.used(name)
    return False


def _assets(model: Model, changed_weights: bool) -> tuple[list[str], list[str]]:
    """Other files to copy, and lines for those left out."""
    source = model.source
    run = run_files(source.assets)
    same = model.provenance.keeps_head or model.head_name == "base"
    embedder = () if same else embedder_files(source)
    kept = [
        name
        for name in source.assets
        if name not in run and name not in embedder and not (changed_weights and name == _CARD)
    ]
    state = [name for name in source.other_weights if is_trainer_state(name)]
    other = [name for name in source.other_weights if name not in state]
    of_a_run = (*sorted(run), *dict.fromkeys(name.partition("/")[0] for name in state))
    left_out = [f"left out: {name} (of a training run)" for name in of_a_run]
    left_out += [f"left out: {name} (is for embeddings)" for name in embedder]
    if changed_weights:
        left_out += [
            f"left out: {name} (describes the original weights)" for name in source.assets if name == _CARD
        ]
        left_out += [f"left out: {name} (holds the original weights)" for name in other]
    else:
        kept += other
    return kept, left_out


def _record(
    model: Model,
    tensors: Mapping[str, torch.Tensor],
    config: bytes,
    files: Mapping[str, Content],
) -> Record:
    """Every difference from the source that the written folder has."""
    source, plan = model.source, model.provenance.plan
    written = {plan.written(name): info for name, info in source.tensors.items()}
    both = {name: tensor for name, tensor in tensors.items() if name in written}
    floating = {name: tensor.dtype for name, tensor in both.items() if tensor.is_floating_point()}
    changed = {dtype for name, dtype in floating.items() if CODES[dtype] != written[name].dtype}
    target = next(iter(changed)) if len(changed) == 1 else None
    new = json.loads(config)
    keys = [key for key in {**source.config, **new} if source.config.get(key, ABSENT) != new.get(key, ABSENT)]
    gone = [name for name in (*source.assets, *source.other_weights) if name not in files]
    changes = {name: "left out" for name in gone if name != RECORD}
    for name, content in files.items():
        known = (source.folder / name).is_file()
        if not isinstance(content, Path) and name not in (CONFIG, RECORD):
            if not known:
                changes[name] = "added"
            elif content != (source.folder / name).read_bytes():
                changes[name] = "changed"
    new_parameters = tuple(name for binding in plan.initialized for name in binding.disk)
    return Record(
        head="" if model.provenance.keeps_head and not new_parameters else model.head_name,
        new_parameters=new_parameters,
        left_out=tuple(name for name in written if name not in tensors),
        resized=tuple(name for name, tensor in both.items() if tuple(tensor.shape) != written[name].shape),
        cast="" if target is None else str(target).removeprefix("torch."),
        not_cast=tuple(name for name, dtype in floating.items() if target is not None and dtype != target),
        config={key: new.get(key) for key in keys},
        files=changes,
        merged=_merged(model, tensors),
        adapter=model.provenance.merged.get("adapter", {}),
    )


def _replaced(reader: Reader, source: Source, record: Record, before: Record) -> dict[str, str]:
    """Digests of what stands in the source under the names that the record has; see `Record.replaced`."""
    again = {*before.merged, *before.resized}
    tensors = [*record.new_parameters, *(name for name in (*record.merged, *record.resized) if name in again)]
    files = [name for name, what in record.files.items() if before.files.get(name) == what]
    paths = {name: source.folder / name for name in files}
    return {
        name: hashlib.sha256(tensor_bytes(reader.tensor(name))).hexdigest()
        for name in tensors
        if name in source.tensors
    } | {name: sha256_of(path) if path.is_file() else "" for name, path in paths.items()}


def _merged(model: Model, tensors: Collection[str]) -> tuple[str, ...]:
    """Names on disk of the parameters that an adapter was merged into."""
    plan, changed = model.provenance.plan, set(model.provenance.merged.get("parameters", ()))
    names = (plan.written(disk) for b in plan.bindings if b.memory in changed for disk in b.disk)
    return tuple(name for name in names if name in tensors)
