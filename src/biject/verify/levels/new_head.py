"""A head that the export declares new: compared with nothing, but it must be what a head starts from."""

from __future__ import annotations

import torch
from torch import Tensor

from biject.checkpoint.reader import Reader
from biject.record import RECORD
from biject.verify.levels.changes import new_names
from biject.verify.levels.names import some
from biject.verify.report import Check
from biject.verify.subject import Subject


def new_head(subject: Subject) -> list[Check]:
    """The declared tensors: finite, and no matrix of one value, which no initialisation gives."""
    names = sorted(new_names(subject) & set(subject.export.tensors))
    if not names:
        return []
    reader = Reader(subject.export)
    tensors = {name: reader.tensor(name) for name in names}
    wrong = [f"{name} ({problem})" for name, tensor in tensors.items() if (problem := _problem(tensor))]
    detail = f"no start of a head: {some(wrong)}"
    if not wrong:
        stds = [f"{name} {tuple(t.shape)}, {_spread(t)}" for name, t in tensors.items()]
        detail = f"as declared in {RECORD}, compared with nothing: {'; '.join(stds)}"
    return [Check(name="new head", passed=not wrong, detail=detail)]


def _problem(tensor: Tensor) -> str | None:
    if not bool(torch.isfinite(tensor).all()):
        return "NaN or infinite"
    if tensor.dim() > 1 and tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
        return "one value everywhere"
    return None


def _spread(tensor: Tensor) -> str:
    if tensor.dim() > 1:
        return f"standard deviation {float(tensor.float().std(correction=0)):.2g}"
    return f"from {float(tensor.min()):.2g} to {float(tensor.max()):.2g}"
