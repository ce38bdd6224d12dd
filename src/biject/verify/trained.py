"""`verify_trained`: the export of a training run, against the model that is still in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from biject.verify.export import verify_subject
from biject.verify.hf import quiet
from biject.verify.inputs import Case
from biject.verify.report import Report
from biject.verify.subject import Subject

if TYPE_CHECKING:
    from biject.model import Model


def verify_trained(
    model: Model,
    folder: str | Path,
    *,
    prompt: str | None = None,
    batches: Sequence[Mapping[str, Tensor]] = (),
    levels: Sequence[str] = ("reload", "trained"),
) -> Report:
    """Prove that `transformers` computes from the exported folder what the trained model computes.

    Args:
        model: As training left it; where the folder's dtype is another, a copy is cast to it.
        folder: What was exported from it.
        prompt: A text to compare outputs on, besides the built-in inputs.
        batches: Further inputs to compare on, e.g. of the evaluation data, without labels or with.
        levels: Names out of `LEVELS` and `trained`.

    Raises:
        BijectError: The folder cannot be read, the prompt not tokenized, or transformers is not installed.
    """
    with quiet():
        subject = Subject(Path(folder), prompt=prompt, trained=model)
        subject.cases.extend(Case(name=f"data {i + 1}", inputs=batch) for i, batch in enumerate(batches))
        return verify_subject(subject, levels=levels)
