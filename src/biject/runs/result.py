"""What a run writes at its end: the model, or the adapter and, where requested, the model that it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from biject.adapters.file import save_adapter
from biject.config.recipe import FinetuneRecipe
from biject.config.tasks import EMBEDDINGS
from biject.fallback.adapter import save_adapter as save_by_peft
from biject.fallback.model import FallbackModel
from biject.fallback.saving import save_fallback
from biject.pretrained import PretrainedModel
from biject.runs.adapter import adapter_folder
from biject.runs.card import CARD
from biject.runs.folder import RunFolder
from biject.runs.prepare import Prepared
from biject.runs.proof import prove, prove_adapter
from biject.runs.receipt import merge_receipt, proof_texts
from biject.save import Saved, save_model
from biject.tasks.dense import detached
from biject.verify.embedder import embedder_level
from biject.verify.report import Report

Log = Callable[[str], None]
Prove = Callable[[Callable[[], Report]], "Report | None"]
"""Runs a proof where it can be run, and reports what it found."""


def write_result(
    run: RunFolder,
    recipe: FinetuneRecipe,
    prepared: Prepared,
    log: Log,
    proven: Prove,
    *,
    force: bool,
    adapter_card: bytes,
) -> tuple[Saved, Report | None]:
    """Write the run's result, with a proof of every folder.

    Args:
        run: Where.
        recipe: What was trained.
        prepared: With the trained model; a merged adapter is gone from it afterwards.
        log: Takes a line a folder.
        proven: Called with every proof.
        force: Replace what an interrupted end left.
        adapter_card: README.md of an adapter's folder.
    """
    if prepared.model.adapters is None:
        return _model(run, recipe, prepared, log, proven, force=force)
    folder, model = adapter_folder(run.folder), prepared.model
    extra = {CARD: adapter_card}
    if isinstance(model, FallbackModel):
        written = save_by_peft(model, folder, force=force, extra=extra)
    else:
        with detached(model):
            written = save_adapter(model, folder, force=force, extra=extra)
    size = sum((folder / name).stat().st_size for name in written.files)
    log(f"ADAPTER of {recipe.model} in {folder}: {size:,} bytes")
    report = proven(lambda: prove_adapter(model, folder, prepared.proof_samples, prepared.collate))
    saved = Saved(
        folder=folder,
        files=written.files,
        changes=("an adapter: the base's files stay as they are",),
        architecture=_class(model),
        weight_bytes=size,
    )
    if not recipe.merge:
        return saved, report
    model.merge_adapter()
    merged, other = _model(run, recipe, prepared, log, proven, force=force)
    if report is not None and other is not None:
        checked = None
        if not isinstance(model, FallbackModel):  # the receipt compares our own classes
            checked = proven(lambda: replace(other, levels=(merge_receipt(run, folder, prepared),)))
        measured = () if checked is None else checked.levels
        report = replace(other, levels=(*report.levels, *other.levels, *measured))
    files = {f"{folder.name}/{name}": digest for name, digest in saved.files.items()}
    files |= {f"{Path(merged.folder).name}/{name}": digest for name, digest in merged.files.items()}
    return replace(merged, files=files), report


def _model(
    run: RunFolder, recipe: FinetuneRecipe, prepared: Prepared, log: Log, proven: Prove, *, force: bool
) -> tuple[Saved, Report | None]:
    dtype: torch.dtype = getattr(torch, recipe.dtype)
    model = prepared.model
    options: dict[str, Any] = {"force": force, "extra": prepared.extra, "without": prepared.without}
    if isinstance(model, FallbackModel):
        saved = save_fallback(model, run.model, dtype=dtype, **options)
        log(f"MODEL {saved.architecture} in {run.model}: {saved.weight_bytes:,} bytes")
        return saved, proven(lambda: _proof(run, recipe, prepared))
    if prepared.finish is not None:
        options["extra"] = {**prepared.extra, **prepared.finish(model)}
    with detached(model):
        saved = save_model(model, run.model, dtype=dtype, **options)
        log(f"MODEL {saved.architecture} in {run.model}: {saved.weight_bytes:,} bytes")
        return saved, proven(lambda: _proof(run, recipe, prepared))


def _proof(run: RunFolder, recipe: FinetuneRecipe, prepared: Prepared) -> Report:
    """What transformers, and of embedders and rerankers sentence-transformers, make of the folder."""
    found = prove(prepared.model, run.model, prepared.proof_samples, prepared.collate)
    texts = proof_texts(prepared)
    if recipe.task not in EMBEDDINGS or recipe.dtype != "float32" or texts is None:
        return found
    level = embedder_level(run.model, texts, reranker=recipe.task == "rerank")
    return replace(found, levels=(*found.levels, level))


def _class(model: PretrainedModel | FallbackModel) -> str:
    if isinstance(model, FallbackModel):
        return model.class_name
    return model.family.heads[model.head_name].hf_class
