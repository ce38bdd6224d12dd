"""`merge`: an adapter into its base, as PEFT merges it, with a receipt of what that changed."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from biject.adapters.file import changed_files
from biject.adapters.state import put
from biject.checkpoint.adapter import Stored, base_folder, is_adapter, local_base, read_adapter
from biject.checkpoint.fingerprint import weights_fingerprint
from biject.checkpoint.hub import resolve_folder
from biject.checkpoint.source import open_source
from biject.checkpoint.writer import check_apart
from biject.errors import ConfigError, InputError, shown
from biject.events import known
from biject.merging.measure import Measured, measure
from biject.merging.receipt import DEQUANTISED, FILE, ORIGINAL, Receipt, distance, misses
from biject.merging.sample import Sample, Text, make_sample
from biject.nn.addresses import align
from biject.pretrained import PretrainedModel, load
from biject.quantize import quantised_linears
from biject.record import Record
from biject.save import save_model
from biject.tokenization.files import tokenizer_folder

Target = Literal["auto", "original", "dequantised"]
_FOLDER = "folder"


@dataclass(frozen=True, kw_only=True)
class _Job:
    """An adapter with its base, read and found to belong together."""

    stored: Stored
    base: Path
    quantised: Mapping[str, Any]
    not_checked: tuple[str, ...]

    def load(self, *, quantised: bool = False, dtype: Any = torch.float32) -> PretrainedModel:
        """The base with the adapter."""
        how = self.quantised if quantised else {}
        with known("adapter-of-quantised-base"):  # both bases are tried, and compared
            return load(self.base, adapter=self.stored.folder, dtype=dtype, **how)


def merge(
    adapter: str | Path,
    out: str | Path,
    *,
    base: str | Path | None = None,
    texts: Sequence[Text] | None = None,
    labels: Sequence[str | int] | None = None,
    sample_name: str = "",
    quantization: str | None = None,
    target: Target = "auto",
    force: bool = False,
) -> Receipt:
    """Merge an adapter into its base and write the merged model with its receipt, `merge_receipt.json`.

    The merged model, adapter and base compute the same samples; the verdict is about the difference. Of an
    adapter that was trained on a quantised base, both bases are tried: the original one, and the one that its
    codes stand for; `auto` writes the one that is nearer to the adapter on the quantised base.

    Args:
        adapter: Its folder, or a repository on the Hub.
        out: The folder to write.
        base: The base's folder or repository; left out, the one that adapter_config.json names.
        texts: What to measure on; built-in texts where left out.
        labels: A class for each text, of a classifier.
        sample_name: What the receipt calls the texts.
        quantization: How the base was held in training (`nf4`, `fp4`, `int8`), if biject.json does not say.
        target: The base to merge into.
        force: Replace `out`.

    Raises:
        ConfigError: The adapter is of another base, has been merged into this one already, or was changed
            since it was written.
        BijectError: What else cannot be used; nothing is written then.
    """
    if target not in get_args(Target):
        raise InputError(f"target: expected one of {', '.join(get_args(Target))}, found {shown(target)}.")
    job = _job(adapter, base, quantization)
    if target == "dequantised" and not job.quantised:
        raise InputError(
            "target dequantised: the adapter was not trained on a quantised base, as far as is recorded; "
            "quantization= says how it was held."
        )
    for read in (job.stored.folder, job.base):
        check_apart(Path(out), read)
    reference = job.load(quantised=bool(job.quantised))
    align(reference)
    sample = _sample(job, reference, texts, labels, sample_name)
    candidates = {name: _merged(job, name, "auto") for name in _targets(job)}
    results = measure(reference, {name: _in_float32(one) for name, one in candidates.items()}, sample)
    exact = dict(results)
    for name, one in candidates.items():
        if one.dtype != torch.float32:
            exact |= measure(reference, {name: _merged(job, name, torch.float32)}, sample)
    recommended = min(results, key=lambda name: distance(results[name]))
    chosen = recommended if target == "auto" else str(target)
    receipt = _receipt(job, Path(out), candidates[chosen], sample, results, exact, chosen, recommended)
    saved = save_model(
        candidates[chosen],
        Path(out),
        force=force,
        seal=(FILE, lambda sums: replace(receipt, files=sums).to_bytes()),
    )
    return replace(receipt, files=saved.files)


def check_merge(
    folder: str | Path,
    adapter: str | Path,
    *,
    base: str | Path | None = None,
    texts: Sequence[Text] | None = None,
    labels: Sequence[str | int] | None = None,
    sample_name: str = "",
    quantization: str | None = None,
) -> Receipt:
    """The receipt of a merged folder that is there already, whoever merged it.

    Args:
        folder: The merged model's.
        adapter: The adapter that should be in it.
        base: As in `merge`, as the rest.
        texts: See there.
        labels: See there.
        sample_name: See there.
        quantization: See there.

    Raises:
        BijectError: What cannot be used.
    """
    job = _job(adapter, base, quantization)
    reference = job.load(quantised=bool(job.quantised))
    align(reference)
    sample = _sample(job, reference, texts, labels, sample_name)
    there = load(folder, head=reference.head_name, dtype=torch.float32)
    align(there)
    merges = {name: _merged(job, name, there.file_dtype) for name in _targets(job)}
    written = next((name for name, one in merges.items() if _same_numbers(one, there)), None)
    expected = {name: _in_float32(one) for name, one in merges.items()}
    results = measure(reference, {**expected, _FOLDER: there}, sample)
    own, exact = results.pop(_FOLDER), dict(results)
    if there.file_dtype != torch.float32:
        exact = measure(reference, {name: _merged(job, name, torch.float32) for name in merges}, sample)
    if written is None or there.file_dtype.itemsize > 2:
        exact[_strict(job)] = own
    target = written or ORIGINAL
    recommended = min(results, key=lambda name: distance(results[name]))
    receipt = _receipt(job, Path(folder), there, sample, {target: own}, exact, target, target)
    best = distance(results[recommended])
    if job.quantised and distance(own) > 2 * best:
        problem = (
            f"merging into the {recommended} base comes {distance(own) / max(best, 1e-30):.3g} times as near "
            "to the adapter on the base that it was trained on"
        )
        receipt = replace(receipt, problems=(*receipt.problems, problem))
    return replace(receipt, recommended=recommended)


def _same_numbers(merged: PretrainedModel, there: PretrainedModel) -> bool:
    """Whether a folder, loaded in float32, holds just what merging in its dtype gives.

    In 16 bits it is rounding alone, then, that its outputs differ by.
    """
    own = dict(there.named_parameters())
    return all(
        name in own and torch.equal(own[name], value.float()) for name, value in merged.named_parameters()
    )


def _job(adapter: str | Path, base: str | Path | None, quantization: str | None) -> _Job:
    """Read and refuse."""
    folder = resolve_folder(adapter)
    if not is_adapter(folder):
        raise InputError(f"{folder} is no adapter: no adapter_config.json, or a model's weights beside it.")
    stored = read_adapter(folder)
    changed = changed_files(stored)
    if changed:
        raise ConfigError(
            f"{folder}: {', '.join(changed)} was changed since biject.json was written beside it. Fetch the "
            "adapter again; where the change is meant, remove biject.json."
        )
    where = base_folder(stored) if base is None else resolve_folder(base)
    not_checked = _refuse_other_base(stored, where) if base is not None else []
    _refuse_merged(stored, where)
    recorded = stored.quantization
    held = recorded.get("quantization")
    if quantization is not None and held is not None and held != quantization:
        raise InputError(f"quantization {shown(quantization)}: {folder} records that its base was in {held}.")
    if quantization is not None and held is None:
        recorded = {"quantization": quantization}
    if "base_fingerprint" not in stored.record:
        not_checked.append("that the adapter was trained on the weights of this base: it has no record of it")
    return _Job(stored=stored, base=where, quantised=recorded, not_checked=tuple(not_checked))


def _refuse_other_base(stored: Stored, where: Path) -> list[str]:
    """A base that was given, against the one that the adapter names, where that is here."""
    named = local_base(stored)
    if named is None:
        return [f"that {where} is the base that the adapter names, {shown(stored.base)}, which is not here"]
    if named.resolve() != where.resolve():
        one, other = (weights_fingerprint(open_source(place)) for place in (named, where))
        if one != other:
            raise ConfigError(
                f"{stored.folder} names the base {named}, whose weights are others than those of {where}: "
                "merged into that, it would be another model. Leave the base out, or give its own."
            )
    return []


def _refuse_merged(stored: Stored, where: Path) -> None:
    declared = Record.read(where)
    own = stored.record.get("tensors_sha256")
    if own is not None and declared.adapter.get("tensors_sha256") == own:
        raise ConfigError(
            f"{where} has this adapter in it already, as its biject.json says: merged twice, it would count "
            "twice. Give the base that it was trained on."
        )


def _sample(
    job: _Job,
    model: PretrainedModel,
    texts: Sequence[Text] | None,
    labels: Sequence[str | int] | None,
    name: str,
) -> Sample:
    if labels is not None and model.head_name != "seqcls":
        raise InputError(f"Labels are for classifiers; the adapter's head is {model.head_name}.")
    if texts is None and labels is not None:
        raise InputError("Labels need the texts that they are of.")
    if texts is not None and labels is not None and len(texts) != len(labels):
        raise InputError(f"There are {len(texts)} texts and {len(labels)} labels.")
    folder = tokenizer_folder(job.stored.folder, base=job.base)
    return make_sample(model, folder, texts, labels=labels, name=name)


def _targets(job: _Job) -> tuple[str, ...]:
    return (ORIGINAL, DEQUANTISED) if job.quantised else (ORIGINAL,)


def _strict(job: _Job) -> str:
    """The target that comes as near as float32 does."""
    return DEQUANTISED if job.quantised.get("quantization") in ("nf4", "fp4") else ORIGINAL


def _merged(job: _Job, target: str, dtype: Any) -> PretrainedModel:
    """The merged model, in eval mode."""
    model = job.load(dtype=dtype)
    if target == DEQUANTISED:
        held = job.load(quantised=True)
        for name, linear in quantised_linears(held):
            weight = linear.dequantized_weight()
            weight = weight.t().contiguous() if linear.stored_transposed else weight
            own = model.get_submodule(name).get_parameter("weight")
            put(model, f"{name}.weight", nn.Parameter(weight.to(own.dtype)))
    model.merge_adapter()
    align(model)
    if target == DEQUANTISED:
        _declare_dequantised(model, [name for name, _ in quantised_linears(held)], job.quantised)
    return model


def _declare_dequantised(model: PretrainedModel, names: Sequence[str], quantised: Mapping[str, Any]) -> None:
    """Matrices without an adapter differ from the base's file as well."""
    merged = dict(model.provenance.merged)
    merged["parameters"] = tuple(dict.fromkeys((*merged["parameters"], *(f"{n}.weight" for n in names))))
    merged["adapter"] = {**merged["adapter"], "dequantised": quantised["quantization"]}
    model.provenance = replace(model.provenance, merged=merged)


def _in_float32(model: PretrainedModel) -> PretrainedModel:
    """The same numbers, computed in float32."""
    return model if model.dtype == torch.float32 else copy.deepcopy(model).to(torch.float32)


def _receipt(
    job: _Job,
    out: Path,
    model: PretrainedModel,
    sample: Sample,
    results: Mapping[str, Measured],
    exact: Mapping[str, Measured],
    target: str,
    recommended: str,
) -> Receipt:
    problems, warnings = [], []
    held = job.quantised.get("quantization")
    miss = None if held == "int8" else misses(exact[_strict(job)])  # int8 rounds inputs: no merge is so near
    if miss is not None:
        problems.append(miss)
    if target != recommended:
        one, other = (distance(results[name]) for name in (target, recommended))
        problems.append(
            f"merged into the {target} base, it is {one / max(other, 1e-30):.3g} times as far from the "
            f"adapter on the base that it was trained on as merged into the {recommended} base"
        )
    rounded = results[target]
    if miss is None and rounded.ratio > 1 and rounded.effect > 0 and not held:
        name = str(model.file_dtype).removeprefix("torch.")
        warnings.append(f"rounding to {name} changes outputs more than the adapter does: keep it apart")
    config = job.stored.config
    return Receipt(
        adapter=str(job.stored.folder),
        base=str(job.base),
        out=str(out),
        model={
            "family": model.family.model_type,
            "head": model.head_name,
            "rank": config.r,
            "alpha": config.lora_alpha,
            "base held in": held,
        },
        target=target,
        recommended=recommended,
        dtype=str(model.dtype).removeprefix("torch."),
        sample=sample.what,
        results=results,
        exact=exact,
        problems=tuple(problems),
        warnings=tuple(warnings),
        not_checked=job.not_checked,
    )
