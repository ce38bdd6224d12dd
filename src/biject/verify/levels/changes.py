"""Which differences between source and export were requested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from biject.identify import architecture_of, identify
from biject.pretrained import same_tensors
from biject.verify.subject import Subject

# Keys of config.json that an export may change, and only with the change that needs it.
HEAD_KEYS = frozenset({"architectures", "id2label", "label2id", "num_labels", "problem_type", "legacy"})
DTYPE_KEYS = frozenset({"dtype", "torch_dtype"})
# A card describes the weights that it came with.
CARDS = frozenset({"README.md"})


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The tensors that an export should have: the source's, and a new head's."""

    kept: frozenset[str]
    new: frozenset[str]
    names: Mapping[str, str] = field(default_factory=dict)
    """Of the source's names those that the export's class spells otherwise, and how."""


def same_head(subject: Subject) -> bool:
    """Whether source and export name the same class; a source that names none is taken to be the same."""
    if subject.source is None:
        return True
    return architecture_of(subject.source.config) in (None, subject.architecture)


def names_no_class(subject: Subject) -> bool:
    """Whether the source's config names no class, so that the export had to choose one."""
    return subject.source is not None and architecture_of(subject.source.config) is None


def expected_names(subject: Subject) -> Expected:
    """All of the source's tensors; after a change of head, those that the new head uses, and its own."""
    assert subject.source is not None
    if same_head(subject):
        return Expected(kept=frozenset(subject.source.tensors), new=frozenset())
    plan = identify(
        subject.source.config,
        subject.source.tensors,
        same=same_tensors(subject.source),
        head=subject.head,
        new_head={},
        where=str(subject.source.folder),
    ).plan
    kept = {plan.written(disk) for binding in plan.bindings for disk in binding.disk}
    return Expected(
        kept=frozenset(kept),
        new=frozenset(disk for binding in plan.initialized for disk in binding.disk),
        names=plan.respelt,
    )
