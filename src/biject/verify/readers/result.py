"""What each reader made of a folder, as data and lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Status = Literal["pass", "fail", "n/a", "skipped"]


class Unreadable(Exception):  # noqa: N818 (no error: the reader has no such models)
    """A reader does not read models of this kind."""


class Missing(Exception):  # noqa: N818
    """A reader is not here, or was not asked for."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One reader's result.

    Attributes:
        reader: Its name, with its version where it was run.
        status: `n/a` where it reads no such models, `skipped` where it is not here.
        compared: What was compared.
        detail: How equal it is, or why there is nothing to compare.
        max_abs_diff: Largest absolute difference, where numbers were compared.
        bound: What that may be at most.
    """

    reader: str
    status: Status
    compared: str = ""
    detail: str = ""
    max_abs_diff: float | None = None
    bound: float | None = None

    def line(self) -> str:
        """One plain line."""
        word = {"pass": "PASS", "fail": "FAIL", "n/a": "N/A", "skipped": "SKIP"}[self.status]
        return " ".join(part for part in (word, f"{self.reader}:", self.compared, self.detail) if part)


@dataclass(frozen=True, kw_only=True)
class Readings:
    """All readers of a folder."""

    folder: str
    model: Mapping[str, str]
    readings: tuple[Reading, ...]

    @property
    def passed(self) -> bool:
        """Somebody read it, and nobody differs."""
        statuses = [reading.status for reading in self.readings]
        return "pass" in statuses and "fail" not in statuses

    def lines(self) -> list[str]:
        """A line each, then one verdict."""
        count = sum(reading.status == "pass" for reading in self.readings)
        word = "PASS" if self.passed else "FAIL"
        verdict = f"VERDICT {word} {self.folder} ({count} readers agree with Biject)"
        return [*(reading.line() for reading in self.readings), verdict]

    def to_json(self, *, indent: int | None = 2) -> str:
        """The same as JSON text."""
        return json.dumps(asdict(self) | {"passed": self.passed}, indent=indent, ensure_ascii=False)


def same_tensors(reader: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], what: str) -> Reading:
    """Names, dtypes, shapes and bytes are equal."""
    wrong = [f"{name} is missing" for name in ours if name not in theirs]
    wrong += [f"{name} is new" for name in theirs if name not in ours]
    wrong += [
        f"{name} differs" for name in ours if name in theirs and not same_bytes(ours[name], theirs[name])
    ]
    if wrong or not ours:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        return Reading(
            reader=reader, status="fail", compared=what, detail=", ".join(wrong[:4]) + more or "none"
        )
    return Reading(
        reader=reader,
        status="pass",
        compared=what,
        detail=f"{len(ours)} tensors byte-equal",
        max_abs_diff=0.0,
    )


def same_bytes(a: Tensor, b: Tensor) -> bool:
    """Dtype, shape and every byte."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(_bytes(a), _bytes(b))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def close(
    reader: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], *, bound: float, what: str
) -> Reading:
    """Numbers are as near as `bound`, relative to the largest of ours; NaN is near nothing."""
    worst, scale = 0.0, 0.0
    wrong = [name for name in ours if name not in theirs or ours[name].shape != theirs[name].shape]
    for name in ours:
        if name not in wrong:
            distance = float((ours[name].double() - theirs[name].double()).abs().max())
            worst = max(worst, distance if distance == distance else float("inf"))
            scale = max(scale, float(ours[name].double().abs().max()))
    limit = bound * scale
    passed = bool(ours) and not wrong and worst <= limit
    detail = f"max abs diff {worst:.2g} (bound {limit:.2g}, {bound:.0e} of the largest value)"
    if wrong:
        detail = f"{', '.join(wrong[:4])}: missing or of another shape"
    status: Status = "pass" if passed else "fail"
    return Reading(
        reader=reader, status=status, compared=what, detail=detail, max_abs_diff=worst, bound=limit
    )


def about(model: Any) -> dict[str, str]:
    """Family, head and class, for the head of a report."""
    return {
        "family": str(model.family.model_type),
        "head": str(model.head_name),
        "class": str(model.family.heads[model.head_name].hf_class),
    }
