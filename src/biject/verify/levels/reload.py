"""Level `reload`: transformers loads the export as the class in `architectures`; nothing is missed."""

from __future__ import annotations

import torch

from biject.verify.hf import HFModel
from biject.verify.levels.changes import same_head
from biject.verify.levels.names import some
from biject.verify.report import Check
from biject.verify.subject import Subject, resolved_by_tensors

ADAPTER = "adapter_config.json"


def reload(subject: Subject) -> list[Check]:
    """HF's missing, unexpected and mismatched sets: the source's own; without one (of this head), none."""
    loaded = subject.theirs(class_name=subject.named_class)
    checks = [Check(name="transformers loads it", passed=not loaded.errors, detail=_as(loaded))]
    if subject.source is not None and same_head(subject):
        before = subject.their_source(class_name=subject.named_class)
        checks += [
            _equal("missing", before.missing, loaded.missing),
            _equal("unexpected", before.unexpected, loaded.unexpected),
            _equal("mismatched", before.mismatched, loaded.mismatched),
        ]
    else:
        checks += _alone(subject, loaded)
    checks += [*_arguments(subject), *_by_itself(subject)]
    broken = [
        name for name, value in loaded.model.named_parameters() if not bool(torch.isfinite(value).all())
    ]
    detail = f"NaN or infinite: {some(broken)}" if broken else "no NaN, no infinity"
    return [*checks, Check(name="parameters", passed=not broken, detail=detail)]


def _as(loaded: HFModel) -> str:
    return f"errors: {some(loaded.errors)}" if loaded.errors else f"as {loaded.class_name}"


def _arguments(subject: Subject) -> list[Check]:
    """Arguments that HF needs beside the folder, where config.json and tensors disagree."""
    if subject.head != "mlm":
        return []
    resolved = resolved_by_tensors(subject.export)
    needed = [f"{key}={value}" for key, value in resolved.items() if subject.config.get(key, True) != value]
    if not needed:
        return []
    detail = (
        f"{', '.join(needed)} has to be given to from_pretrained: the tensors need it, config.json disagrees"
    )
    return [Check(name="arguments", passed=True, detail=detail)]


def _by_itself(subject: Subject) -> list[Check]:
    """What transformers would load beside the model without a word, and nothing here compared."""
    if ADAPTER not in subject.export.assets:
        return []
    detail = (
        f"transformers loads the adapter that {ADAPTER} names by itself, so that the folder's outputs are "
        "not those of its weights. Merge the adapter, or keep it in a folder of its own."
    )
    return [Check(name="adapter", passed=False, detail=detail)]


def _equal(what: str, before: tuple[str, ...], after: tuple[str, ...]) -> Check:
    if before == after:
        return Check(name=f"{what} names", passed=True, detail=f"as in the source: {some(after) or 'none'}")
    lost, found = set(before) - set(after), set(after) - set(before)
    parts = [f"new: {some(found)}"] if found else []
    parts += [f"no longer: {some(lost)}"] if lost else []
    return Check(name=f"{what} names", passed=False, detail="; ".join(parts))


def _alone(subject: Subject, loaded: HFModel) -> list[Check]:
    """Without a source: a pooler may be missing, passthrough tensors may be unexpected; both are listed."""
    missing = [name for name in loaded.missing if ".pooler." not in f".{name}"]
    plan = subject.ours.provenance.plan if loaded.unexpected else None
    known = set(plan.passthrough) - set(plan.unknown) if plan else set()
    unexpected = [name for name in loaded.unexpected if name not in known]
    return [
        _none("missing", missing, loaded.missing),
        _none("unexpected", unexpected, loaded.unexpected),
        _none("mismatched", list(loaded.mismatched), loaded.mismatched),
    ]


def _none(what: str, wrong: list[str], found: tuple[str, ...]) -> Check:
    if wrong:
        return Check(name=f"{what} names", passed=False, detail=some(wrong))
    return Check(name=f"{what} names", passed=True, detail=f"allowed: {some(found)}" if found else "none")
