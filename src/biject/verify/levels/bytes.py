"""Level `bytes`: every tensor's dtype, shape and bytes, config.json, tokenizer and other assets."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np

from biject.checkpoint.bytes import DTYPES, tensor_bytes
from biject.checkpoint.hub_content import sha256_of
from biject.checkpoint.reader import Reader
from biject.checkpoint.source import CONFIG, Source
from biject.inspection import TOKENIZER_FILES
from biject.verify.levels.changes import (
    CARDS,
    DTYPE_KEYS,
    HEAD_KEYS,
    expected_names,
    names_no_class,
    new_names,
    same_head,
)
from biject.verify.levels.names import some
from biject.verify.levels.new_head import new_head
from biject.verify.report import Check
from biject.verify.subject import Subject


def bytes_(subject: Subject) -> list[Check]:
    """Compare everything that both folders have; requested changes are listed."""
    assert subject.source is not None
    expected = expected_names(subject)
    new = expected.new & new_names(subject)
    tensors, cast = _tensors(subject.source, subject.export, expected.names, declared=new)
    return [
        tensors,
        *new_head(subject),
        _config(subject, cast=cast),
        _assets(subject.source, subject.export, changed=cast or not same_head(subject)),
        _weight_files(subject.source, subject.export),
    ]


def _tensors(
    source: Source, export: Source, names: Mapping[str, str], *, declared: Set[str]
) -> tuple[Check, bool]:
    """The tensors that both have; also whether the export is the source cast to another dtype.

    Args:
        source: What the export was made from.
        export: The verified folder.
        names: Of the source's names those that the export spells otherwise, and how.
        declared: Tensors of a head that the export declares new: other values under the source's names.
    """
    readers = Reader(source), Reader(export)
    common = {name: names.get(name, name) for name in source.tensors}
    common = {
        name: other for name, other in common.items() if other in export.tensors and other not in declared
    }
    different, cast, total = [], [], 0
    whole_cast = (
        len({info.dtype for info in export.tensors.values() if DTYPES[info.dtype].is_floating_point}) == 1
    )
    for name, other in common.items():
        before, after = source.tensors[name], export.tensors[other]
        if before.shape != after.shape:
            different.append(f"{name} (shape {before.shape} -> {after.shape})")
            continue
        old, new = readers[0].tensor(name), readers[1].tensor(other)
        if before.dtype != after.dtype:
            if not whole_cast or not old.is_floating_point():
                different.append(f"{name} (dtype {before.dtype} -> {after.dtype})")
                continue
            old = old.to(DTYPES[after.dtype])
            cast.append(name)
        total += after.nbytes
        old_bytes, new_bytes = (np.frombuffer(tensor_bytes(tensor), dtype=np.uint8) for tensor in (old, new))
        if not np.array_equal(old_bytes, new_bytes):
            count = int(np.count_nonzero(old_bytes != new_bytes))
            different.append(f"{name} ({count} of {after.nbytes} bytes)")
    passed = bool(common) and not different
    detail = f"{len(common)} byte-equal ({total} bytes)" if passed else f"differ: {some(different)}"
    if not common:
        detail = "no tensor name in common"
    if cast and passed:
        dtypes = sorted(
            {f"{source.tensors[name].dtype} -> {export.tensors[common[name]].dtype}" for name in cast}
        )
        detail += f"; cast, as listed: {len(cast)} tensors {', '.join(dtypes)}"
    return Check(name="tensors", passed=passed, detail=detail), bool(cast)


def _config(subject: Subject, *, cast: bool) -> Check:
    """`config.json` as bytes, else key by key."""
    assert subject.source is not None
    if subject.source.config_bytes == subject.export.config_bytes:
        return Check(name=CONFIG, passed=True, detail="byte-equal")
    old, new = subject.source.config, subject.export.config
    changed = {key for key in {*old, *new} if old.get(key, _ABSENT) != new.get(key, _ABSENT)}
    allowed: set[str] = set(DTYPE_KEYS) if cast else set()
    if not same_head(subject):
        allowed |= HEAD_KEYS
    if names_no_class(subject):
        allowed.add("architectures")
    wrong = changed - allowed
    words = some(f"{key} ({_shown(old, key)} -> {_shown(new, key)})" for key in wrong or changed)
    if wrong:
        return Check(name=CONFIG, passed=False, detail=f"changed: {words}")
    detail = f"changed, as listed: {words}" if changed else "the same keys and values, written otherwise"
    return Check(name=CONFIG, passed=bool(changed), detail=detail)


_ABSENT = object()


def _shown(config: dict[str, object], key: str) -> str:
    return repr(config[key]) if key in config else "absent"


def _assets(source: Source, export: Source, *, changed: bool) -> Check:
    """Tokenizer and other files by sha256; a card goes with the weights that it describes."""
    gone = [name for name in source.assets if name not in export.assets]
    left_out = [name for name in gone if changed and name in CARDS]
    missing = [name for name in gone if name not in left_out]
    extra = [name for name in export.assets if name not in source.assets]
    shared = [name for name in source.assets if name in export.assets]
    different = [
        name for name in shared if sha256_of(source.folder / name) != sha256_of(export.folder / name)
    ]
    new = [name for name in extra if name in TOKENIZER_FILES]  # a tokenizer reads what is there
    problems = [
        f"{what}: {some(names)}"
        for what, names in (("missing", missing), ("differ", different), ("new", new))
        if names
    ]
    detail = f"{len(shared)} files byte-equal" if not problems else "; ".join(problems)
    if left_out:
        detail += f"; left out, as listed: {some(left_out)}"
    if extra:
        detail += f"; only in the export: {some(extra)}"
    return Check(name="tokenizer and other files", passed=not problems, detail=detail)


def _weight_files(source: Source, export: Source) -> Check:
    """Whether the files themselves are the same: informative, since another layout can be requested."""
    files = [name for name in source.weight_files if name in export.weight_files]
    same = [name for name in files if sha256_of(source.folder / name) == sha256_of(export.folder / name)]
    if same and len(same) == len(source.weight_files) == len(export.weight_files):
        detail = f"byte-identical: {some(same)}"
    else:
        detail = f"another layout: {some(source.weight_files)} -> {some(export.weight_files)}"
    left_out = [name for name in source.other_weights if name not in export.other_weights]
    if left_out:
        detail += f"; other formats left out: {some(left_out)}"
    return Check(name="weight files", passed=True, detail=detail)
