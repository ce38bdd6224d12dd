"""Level `bytes`: every tensor's dtype, shape and bytes, config.json, tokenizer and other files."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from biject.checkpoint.bytes import DTYPES, tensor_bytes
from biject.checkpoint.reader import Reader
from biject.verify.levels.changes import declared_here, expected_names, new_names
from biject.verify.levels.files import files
from biject.verify.levels.names import some
from biject.verify.levels.new_head import new_head
from biject.verify.report import Check
from biject.verify.subject import Subject


def bytes_(subject: Subject) -> list[Check]:
    """Compare everything that both folders have; declared and allowed differences are listed."""
    expected = expected_names(subject)
    new = expected.new & new_names(subject)
    return [_tensors(subject, expected.names, new=new), *new_head(subject), *files(subject)]


@dataclass
class _Found:
    """What became of the tensors that both folders have."""

    different: list[str] = field(default_factory=list)
    cast: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    total: int = 0


def _tensors(subject: Subject, names: Mapping[str, str], *, new: Set[str]) -> Check:
    """The tensors that both folders have.

    Args:
        subject: Both folders.
        names: Of the source's names those that the export spells otherwise, and how.
        new: Tensors of a head that the export declares new: other values under the source's names.
    """
    source, export = subject.source, subject.export
    assert source is not None
    before, after = Reader(source), Reader(export)
    common = {name: names.get(name, name) for name in source.tensors}
    common = {name: other for name, other in common.items() if other in export.tensors and other not in new}
    changed, resized = declared_here(subject, "merged"), declared_here(subject, "resized")
    merged = {name for name, other in common.items() if other in changed}
    found = _Found()
    for name, other in common.items():
        shapes = source.tensors[name].shape, export.tensors[other].shape
        if shapes[0] != shapes[1] and (other not in resized or shapes[0][1:] != shapes[1][1:]):
            found.different.append(f"{name} (shape {shapes[0]} -> {shapes[1]})")
        elif name not in merged:
            if shapes[0] != shapes[1]:
                found.rows.append(f"{name} ({shapes[0][0]} -> {shapes[1][0]} rows)")
            _compare(subject, name, other, _shared_rows(before.tensor(name), after.tensor(other)), found)
    if not common:
        return Check(name="tensors", passed=False, detail="no tensor name in common")
    if found.different:
        return Check(name="tensors", passed=False, detail=f"differ: {some(found.different)}")
    detail = f"{len(common) - len(merged)} byte-equal ({found.total} bytes)"
    if merged:
        detail += f"; an adapter was merged into {len(merged)}, as declared: {some(merged)}"
    if found.rows:
        detail += f"; resized, as declared, of which the shared rows are compared: {some(found.rows)}"
    if found.cast:
        how = "declared" if subject.declared.cast else "allowed"
        detail += f"; the source's, cast as {how}: {len(found.cast)} tensors "
        detail += ", ".join(sorted(set(found.cast)))
    return Check(name="tensors", passed=True, detail=detail)


def _compare(subject: Subject, name: str, other: str, sides: tuple[Tensor, Tensor], found: _Found) -> None:
    """One tensor's dtype and bytes; its name in the source, and in the export."""
    assert subject.source is not None
    old, new = sides
    dtypes = subject.source.tensors[name].dtype, subject.export.tensors[other].dtype
    if dtypes[0] != dtypes[1]:
        if not _may_cast(subject, old, DTYPES[dtypes[1]]):
            found.different.append(f"{name} (dtype {dtypes[0]} -> {dtypes[1]}, not declared)")
            return
        old = old.to(DTYPES[dtypes[1]])
        found.cast.append(f"{dtypes[0]} -> {dtypes[1]}")
    elif old.is_floating_point() and _should_be_cast(subject, other, old):
        found.different.append(f"{name} (still {dtypes[0]}, declared cast to {subject.declared.cast})")
        return
    found.total += new.nbytes
    count = _differing_bytes(old, new)
    if count:
        found.different.append(f"{name} ({count} of {new.nbytes} bytes)")


def _shared_rows(old: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that both have; both are returned whole where their shapes are equal."""
    if old.shape == new.shape:
        return old, new
    count = min(len(old), len(new))
    return old[:count], new[:count]


def _may_cast(subject: Subject, old: Tensor, dtype: object) -> bool:
    """Whether a tensor may have another dtype than the source's."""
    declared = str(dtype).removeprefix("torch.") == subject.declared.cast
    return old.is_floating_point() and (declared or "cast" in subject.allowed)


def _should_be_cast(subject: Subject, name: str, old: Tensor) -> bool:
    """Whether a declared cast says of a tensor that kept its dtype that it has another."""
    declared = subject.declared
    kept = name in declared.not_cast or str(old.dtype).removeprefix("torch.") == declared.cast
    return bool(declared.cast) and not kept and "cast" not in subject.allowed


def _differing_bytes(old: Tensor, new: Tensor) -> int:
    sides = [np.frombuffer(tensor_bytes(tensor), dtype=np.uint8) for tensor in (old, new)]
    return int(np.count_nonzero(sides[0] != sides[1]))
