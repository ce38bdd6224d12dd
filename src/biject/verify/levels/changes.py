"""Which differences between source and export were asked for."""

from __future__ import annotations

from biject.verify.subject import Subject

# Keys of config.json that an export may change, and only with the change that asks for it.
HEAD_KEYS = frozenset({"architectures", "id2label", "label2id", "num_labels", "problem_type"})
DTYPE_KEYS = frozenset({"dtype", "torch_dtype"})


def same_head(subject: Subject) -> bool:
    """Whether source and export name the same class; a source that names none is taken to be the same."""
    if subject.source is None:
        return True
    named = subject.source.config.get("architectures")
    return not (isinstance(named, list) and named) or str(named[0]) == subject.architecture


def names_no_class(subject: Subject) -> bool:
    """Whether the source's config names no class, so that the export had to choose one."""
    return subject.source is not None and not subject.source.config.get("architectures")
