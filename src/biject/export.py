"""`export_checkpoint`: load a checkpoint and write it back, in one call; what `biject export` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from biject.checkpoint.sizes import parse_bytes
from biject.errors import InputError

if TYPE_CHECKING:
    from biject.save import Saved

KEEP = "keep"
DTYPES = ("float32", "float16", "bfloat16", "float64")
_LABELLED = ("seqcls", "tokcls", "qa", "imgcls", "distilled")
_UNLABELLED = ("mlm", "causal", "rtd")


def export_checkpoint(
    name: str | Path,
    *,
    out: str | Path,
    head: str = "auto",
    dtype: str = KEEP,
    max_shard_size: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    new_head: Sequence[str] | None = None,
    force: bool = False,
    without: Sequence[str] = (),
    family: str | None = None,
) -> Saved:
    """Load a checkpoint and write it as a Hugging Face folder.

    Args:
        name: a repository on the Hub, or a local folder.
        out: the folder to write.
        head: `auto` for the file's own, or `base`, `seqcls`, `tokcls`, `qa`, `mlm`, `causal`, `rtd`.
        dtype: `keep`, or one of `DTYPES` to cast every floating tensor to.
        max_shard_size: e.g. `5GB` or `500MiB`; None keeps the file's cuts.
        revision: branch, tag or commit of the repository.
        token: of the Hub; else `HF_TOKEN` or the one of `hf auth login`.
        new_head: labels of a head that the file lacks, or just `keep` for the config's own.
        force: replace `out` if it exists.
        without: files of the folder that are no part of the model, such as a trainer's state.
        family: the `model_type` of a folder whose config.json names none; the export names it.

    Raises:
        BijectError: the arguments do not fit together, the checkpoint cannot be used, or the folder cannot be
            written; everything is then as it was.
    """
    if dtype not in (KEEP, *DTYPES):
        raise InputError(f"dtype {dtype!r} is none of {KEEP}, {', '.join(DTYPES)}.")
    max_shard_bytes = None if max_shard_size is None else parse_bytes(max_shard_size)
    requested = None if new_head is None else _new_head(tuple(new_head), head)

    from biject.environment import prepare

    prepare()
    import torch

    from biject.pretrained import load
    from biject.save import save_model

    target = None if dtype == KEEP else getattr(torch, dtype)
    model = load(name, head=head, revision=revision, token=token, new_head=requested, family=family)
    left = tuple(name for name in model.source.assets if name in without)
    saved = save_model(
        model,
        Path(out),
        dtype=target,
        max_shard_bytes=max_shard_bytes,
        force=force,
        without=left,
        released=True,
    )
    changes = (*saved.changes, *(f"left out: {name} (no part of the model)" for name in left))
    return replace(saved, changes=changes)


def _new_head(labels: tuple[str, ...], head: str) -> dict[str, list[str]]:
    if head not in (*_LABELLED, *_UNLABELLED):
        raise InputError(
            f"a new head has to be requested by name; head {head!r} is none of "
            f"{', '.join((*_LABELLED, *_UNLABELLED))}."
        )
    if labels == (KEEP,):
        return {}
    if head in _UNLABELLED:
        raise InputError(f"the head {head} has no labels of its own; give {KEEP!r} in their place.")
    if head == "qa" and len(labels) != 2:
        raise InputError(
            f"a question-answering head has 2 outputs, start and end; {len(labels)} labels were given."
        )
    return {"labels": list(labels)}
