"""What a release and Biject found in the same folder, and what two releases wrote and computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biject.checkpoint.reader import Reader
from biject.checkpoint.source import open_source
from biject.verify.compare import OLD_NORM_NAMES
from biject.verify.numbers import distance, same_bits
from biject.verify.report import agreement, listed
from biject.verify.versions.result import Finding, Kind, Traits

_NO_BITS = ("torch_dtype", "dtype", "transformers_version", "_name_or_path")
"""Keys of config.json that say nothing about the model."""


def round_trip(source: Path, export: Path) -> list[Finding]:
    """Every file of the export is the source's, byte for byte, and none is missing or new."""
    before, after = _files(source), _files(export)
    wrong = [
        f"{name} is {_how(name, before, after)}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    return [Finding(kind="bytes", detail=agreement(wrong))] if wrong else []


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _how(name: str, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str:
    return "missing" if name not in after else "new" if name not in before else "not byte-equal"


def loaded(answer: Mapping[str, Any]) -> list[Finding]:
    """The release found every name that it has, and no other."""
    words = {
        "missing_keys": "missing",
        "unexpected_keys": "unexpected",
        "mismatched_keys": "of another shape",
        "error_msgs": "error",
    }
    return [
        Finding(kind="names", detail=f"{words[key]} when loaded: {agreement(answer[key])}")
        for key in words
        if answer[key]
    ]


def outputs(
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    *,
    refused: Collection[str],
    real: Mapping[str, Tensor],
) -> list[Finding]:
    """Bits of outputs and losses, and of hidden layers, of the calls that the release takes.

    Args:
        ours: By `case|output|index`.
        theirs: The same of the release.
        refused: Cases that the release does not take.
        real: Where a case's tokens are no padding; differences at padding alone are told apart.
    """
    ours = {name: tensor for name, tensor in ours.items() if name.partition("|")[0] not in refused}
    here, there = _at_real(ours, real), _at_real(theirs, real)
    found = _tensors("forward", _hidden(here, among=False), _hidden(there, among=False))
    found += _tensors("hidden", _hidden(here, among=True), _hidden(there, among=True))
    return found or _tensors("padding", ours, theirs)


def _hidden(tensors: Mapping[str, Tensor], *, among: bool) -> dict[str, Tensor]:
    return {name: t for name, t in tensors.items() if ("|hidden_states|" in name) is among}


def _at_real(tensors: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rows of real tokens, of tensors that have a row for each token."""
    masks = {name: real.get(name.partition("|")[0]) for name in tensors}
    return {
        name: tensor if (mask := masks[name]) is None or tensor.shape[:2] != mask.shape else tensor[mask]
        for name, tensor in tensors.items()
    }


def gradients(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[Finding]:
    """Bits of gradients, by the names of files; of twins either will do, of old norms the new one.

    What has no gradient there and is no parameter here (a mask token that no call used) is no difference.
    """
    ours, theirs = _new_names(ours), _new_names(theirs)
    theirs = {name: t for name, t in theirs.items() if name in ours or not bool(t.isnan().all())}
    written = {id(tensor) for name, tensor in ours.items() if name in theirs}
    kept = {name: tensor for name, tensor in ours.items() if name in theirs or id(tensor) not in written}
    return _tensors("gradients", kept, theirs)


def _new_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    split = [(name.rpartition("."), tensor) for name, tensor in tensors.items()]
    return {f"{parent}{dot}{OLD_NORM_NAMES.get(leaf, leaf)}": tensor for (parent, dot, leaf), tensor in split}


def _tensors(kind: Kind, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[Finding]:
    names = [*theirs, *(name for name in ours if name not in theirs)]
    alone = [name for name in names if name not in ours or name not in theirs]
    apart = {
        name: distance(ours[name], theirs[name]).max_abs
        for name in names
        if name not in alone and not same_bits(ours[name], theirs[name])
    }
    worst = max(apart.values(), default=0.0)
    words = ["the release gave nothing"] if ours and not theirs else []
    if apart:
        words += [
            f"{len(apart)} of {len(names)} differ, by up to {worst:.3g}, first {_readable(next(iter(apart)))}"
        ]
    for who, those in (("the release", theirs), ("Biject", ours)):
        only = [_readable(name) for name in alone if name in those]
        words += [f"only {who} has {listed(only, most=3)}"] if only else []
    return [Finding(kind=kind, detail="; ".join(words), max_abs_diff=worst)] if words else []


def _readable(name: str) -> str:
    case, _, what = name.partition("|")
    return f"`{what.replace('|', ' ')}` of `{case}`"


def traits(source: Path, theirs: Mapping[str, Tensor], their_gradients: Mapping[str, Tensor]) -> Traits:
    """Digests of what a release wrote and computed, to be compared with another release's."""
    opened = open_source(source)
    reader = Reader(opened)
    config = {key: value for key, value in opened.config.items() if key not in _NO_BITS}
    return Traits(
        tensors={name: _digest(reader.tensor(name)) for name in opened.tensors},
        config={key: json.dumps(value, sort_keys=True) for key, value in config.items()},
        files=tuple(sorted(_files(source))),
        outputs={name: _digest(tensor) for name, tensor in theirs.items()},
        gradients={name: _digest(tensor) for name, tensor in their_gradients.items()},
    )


def _digest(tensor: Tensor) -> str:
    body = tensor.detach().contiguous()
    head = f"{body.dtype} {tuple(body.shape)} ".encode()
    return hashlib.sha256(head + body.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:16]
