"""Which differences between source and export were requested."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from biject.checkpoint.bytes import tensor_bytes
from biject.checkpoint.reader import Reader
from biject.families import family
from biject.identify import architecture_of, identify
from biject.pretrained import same_tensors
from biject.record import Record
from biject.verify.subject import Subject
from biject.weights.plan import Plan

Kind = Literal["new_parameters", "merged", "resized"]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The tensors that an export should have: the source's, and a new head's."""

    kept: frozenset[str]
    new: frozenset[str]
    names: Mapping[str, str] = field(default_factory=dict)
    """Of the source's names those that the export's class spells otherwise, and how."""


def same_head(subject: Subject) -> bool:
    """Whether source and export have the same class and head, and the export declares no parameter new.

    A source that names no class has the head that its tensors show.
    """
    if subject.source is None:
        return True
    named = architecture_of(subject.source.config)
    if new_names(subject):
        return False
    if named is not None:
        return named == subject.architecture
    return subject.architecture is None or subject.source_head == subject.head


def new_names(subject: Subject) -> frozenset[str]:
    """The tensors of a head that the export declares new: of what it declares, what its head may make new."""
    declared = declared_here(subject, "new_parameters")
    return declared & frozenset(_new_plan_names(subject)) if declared else frozenset()


def declared_here(subject: Subject, kind: Kind) -> frozenset[str]:
    """The tensors that the export itself declares to be changed in this way.

    What its source declares as well was so before: a copy of it is compared as any tensor is, unless the
    export declares that it replaced just these bytes.
    """
    names: frozenset[str] = frozenset(getattr(subject.declared, kind))
    if subject.source is None or not names:
        return frozenset()
    before: frozenset[str] = frozenset(getattr(Record.read(subject.source.folder), kind))
    return frozenset(name for name in names if name not in before or _was_replaced(subject, name))


def _was_replaced(subject: Subject, name: str) -> bool:
    """Whether the export declares that it made this tensor new in the place of the source's own."""
    assert subject.source is not None
    said = subject.declared.replaced.get(name)
    if said is None or name not in subject.source.tensors:
        return False
    stood = tensor_bytes(Reader(subject.source).tensor(name))
    return said == hashlib.sha256(stood).hexdigest()


def expected_names(subject: Subject) -> Expected:
    """All of the source's tensors; after a change of head, those that the new head uses, and its own."""
    assert subject.source is not None
    if same_head(subject):
        return Expected(kept=frozenset(subject.source.tensors), new=frozenset())
    plan = _changed_plan(subject)
    kept = {plan.written(disk) for binding in plan.bindings for disk in binding.disk}
    of_base = family(subject.source.config.get("model_type")).kept
    kept |= {name for name in plan.passthrough if name.removeprefix(plan.spelling.prefix) in of_base}
    return Expected(
        kept=frozenset(kept),
        new=frozenset(disk for binding in plan.initialized for disk in binding.disk),
        names=plan.respelt,
    )


def _new_plan_names(subject: Subject) -> set[str]:
    return {disk for binding in _changed_plan(subject).initialized for disk in binding.disk}


def _changed_plan(subject: Subject) -> Plan:
    """The source's tensors read with the export's head, made new."""
    source = subject.source
    assert source is not None
    return identify(
        subject.source_config,
        source.tensors,
        same=same_tensors(source),
        head=subject.head,
        new_head={},
        where=str(source.folder),
    ).plan
