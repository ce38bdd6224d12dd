"""Part of level `bytes`: config.json, tokenizer, templates, further weights and every other file.

A difference fails unless the export declares it (`biject.json`) or the user allows it by name: most of these
files change what a model does, and none of the others can be told from them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biject.checkpoint.hub_content import sha256_of
from biject.checkpoint.source import CONFIG, Source
from biject.errors import shown
from biject.record import RECORD, Record
from biject.verify.levels.names import some
from biject.verify.report import Check
from biject.verify.subject import Subject


def files(subject: Subject) -> list[Check]:
    """Config, other files, and how the weights are laid out in theirs."""
    return [_config(subject), _assets(subject), _weight_files(subject)]


def _config(subject: Subject) -> Check:
    """`config.json` as bytes, else key by key."""
    assert subject.source is not None
    if subject.source.config_bytes == subject.export.config_bytes:
        return Check(name=CONFIG, passed=True, detail="byte-equal")
    old, new, declared = subject.source.config, subject.export.config, subject.declared.config
    changed = [key for key in dict.fromkeys((*old, *new)) if not _same(old, new, key)]
    if not changed:
        detail = "values equal, text differs"
        if "text" not in subject.allowed:
            detail += ": written otherwise than the source (--allow text)"
        return Check(name=CONFIG, passed="text" in subject.allowed, detail=detail)
    said = {key for key in changed if key in declared and _same(declared, new, key)}
    said |= {key for key in changed if key not in new and key in declared and declared[key] is None}
    wrong = [] if "config" in subject.allowed else [key for key in changed if key not in said]
    words = some(f"{key} ({_value(old, key)} -> {_value(new, key)})" for key in wrong or changed)
    if wrong:
        return Check(name=CONFIG, passed=False, detail=f"changed, and not declared: {words}")
    how = "declared" if said == set(changed) else "allowed"
    return Check(name=CONFIG, passed=True, detail=f"changed, as {how}: {words}")


def _same(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> bool:
    """Whether two JSON objects agree in a key; 1, 1.0 and true are three values."""
    if key not in one or key not in other:
        return key not in one and key not in other
    return json.dumps(one[key], sort_keys=True) == json.dumps(other[key], sort_keys=True)


def _value(config: Mapping[str, Any], key: str) -> str:
    return shown(config[key]) if key in config else "absent"


def _assets(subject: Subject) -> Check:
    """Every file beside config.json and the weights that are read, by sha256."""
    source, export = subject.source, subject.export
    assert source is not None
    before, after = ((*each.assets, *each.other_weights) for each in (source, export))
    differences = {name: "left out" for name in before if name not in after}
    differences |= {name: "added" for name in after if name not in before}
    shared = [name for name in before if name in after]
    differences |= {
        name: "changed"
        for name in shared
        if sha256_of(source.folder / name) != sha256_of(export.folder / name)
    }
    if differences.get(RECORD) == "added" or _keeps(Record.read(source.folder), subject.declared):
        differences.pop(RECORD, None)  # the declaration itself
    declared = {name for name, what in differences.items() if _declared_here(subject, name, what)}
    wrong = {name: what for name, what in differences.items() if name not in declared}
    unread = _unread(source, export)
    differences, wrong = differences | unread, wrong | unread
    if "files" in subject.allowed:
        wrong = {}
    equal = f"{len(shared) - sum(what == 'changed' for what in differences.values())} files byte-equal"
    if wrong:
        detail = f"{equal}; not declared: {some(f'{name} ({what})' for name, what in wrong.items())}"
        return Check(name="tokenizer and other files", passed=False, detail=detail)
    if differences:
        how = "declared" if len(declared) == len(differences) else "allowed"
        equal += f"; as {how}: {some(f'{name} ({what})' for name, what in differences.items())}"
    return Check(name="tokenizer and other files", passed=True, detail=equal)


def _declared_here(subject: Subject, name: str, what: str) -> bool:
    """Whether the export itself declares this: what its source declares as well was so before, unless the
    export says that it replaced just this file.
    """
    assert subject.source is not None
    if subject.declared.files.get(name) != what:
        return False
    if Record.read(subject.source.folder).files.get(name) != what:
        return True
    path = subject.source.folder / name
    return subject.declared.replaced.get(name) == (sha256_of(path) if path.is_file() else "")


def _unread(source: Source, export: Source) -> dict[str, str]:
    """What is not looked into, though others may read it: it should be the source's own."""
    return {
        name: "a link to a folder, or no regular file: not compared"
        for name in export.unread
        if name not in source.unread or _target(export.folder, name) != _target(source.folder, name)
    }


def _target(folder: Path, name: str) -> str:
    """Where a link leads to: within the folder, or anywhere."""
    home, real = os.path.realpath(folder), os.path.realpath(folder / name)
    return os.path.relpath(real, home) if Path(real).is_relative_to(home) else real


def _keeps(before: Record, after: Record) -> bool:
    """Whether a record still says what began as random values."""
    return bool(before) and set(before.new_parameters) <= set(after.new_parameters)


def _weight_files(subject: Subject) -> Check:
    """Whether the files themselves are the same: informative, since another layout can be requested."""
    source, export = subject.source, subject.export
    assert source is not None
    shared = [name for name in source.weight_files if name in export.weight_files]
    same = [name for name in shared if sha256_of(source.folder / name) == sha256_of(export.folder / name)]
    detail = f"another layout: {some(source.weight_files)} -> {some(export.weight_files)}"
    if same and len(same) == len(source.weight_files) == len(export.weight_files):
        detail = f"byte-identical: {some(same)}"
    return Check(name="weight files", passed=True, detail=detail)
