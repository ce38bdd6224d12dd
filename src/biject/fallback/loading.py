"""`load_fallback`: a checkpoint of any architecture of transformers, in its own class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from biject.adapters.load import new_head_of, with_adapter
from biject.checkpoint.source import Source, open_source
from biject.errors import ConfigError
from biject.events import notice
from biject.fallback.adapter import load_adapter
from biject.fallback.building import build, file_dtype
from biject.fallback.identity import identify_fallback
from biject.fallback.model import FallbackModel
from biject.identify import NewHead
from biject.placing import requested_dtype


def load_fallback(
    path: str | Path,
    *,
    head: str = "auto",
    revision: str | None = None,
    token: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "cpu",
    new_head: NewHead | None = None,
    labels: int | Sequence[str] | None = None,
    problem_type: str | None = None,
    adapter: str | Path | None = None,
) -> FallbackModel:
    """Load a checkpoint of any architecture of transformers, in eval mode; arguments as in `biject.load`.

    Raises:
        MissingExtraError: transformers (of an adapter, PEFT) is not installed.
        CheckpointError, ConfigError, WeightsError: what is wrong, where, and what to do.
    """
    folder, stored = with_adapter(path, adapter, revision=revision, token=token)
    source = open_source(folder)
    if stored is not None and head == "auto":
        head = stored.head or "auto"
    if stored is not None and new_head is None and labels is None:
        own = identify_fallback(source, head=head).file_head
        new_head = new_head_of(stored, own) if head == stored.head else None
    elif labels is not None:
        new_head = _head_by_labels(source, head, labels, new_head)
    found = identify_fallback(source, head=head, new_head=new_head, problem_type=problem_type)
    kept = requested_dtype(dtype) or file_dtype(source)
    hf, fresh, left_out = build(found, source, kept, new=new_head is not None)
    name = str(path) if stored is None else stored.base or str(folder)
    hf.config._name_or_path = hf.name_or_path = name
    model = FallbackModel(hf, found, source, file_dtype=file_dtype(source), fresh=fresh, left_out=left_out)
    if fresh and stored is None:
        listed = ", ".join(f"`{one}`" for one in fresh)
        notice("new-head", f"New, randomly initialised parameters: {listed}.")
    if stored is not None:
        load_adapter(model, stored)
    return model.to(torch.device(device)).eval()


def _head_by_labels(
    source: Source, head: str, labels: int | Sequence[str], new_head: NewHead | None
) -> NewHead | None:
    """The head by its number of outputs or their names: the file's own where it has as many."""
    if new_head is not None:
        raise ConfigError("Give `new_head` or the head's labels (`num_labels`, `id2label`), not both.")
    names = [f"LABEL_{index}" for index in range(labels)] if isinstance(labels, int) else list(labels)
    own = identify_fallback(source, head=head)
    if own.head == own.file_head and own.config.head.num_labels == len(names):
        return None
    return {"labels": names}
