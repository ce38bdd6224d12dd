"""`verify_adapter`: an adapter's folder, against the model in memory and PEFT on Hugging Face's base."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from biject.checkpoint.adapter import Stored, base_folder, read_adapter
from biject.checkpoint.fingerprint import weights_fingerprint
from biject.checkpoint.hub import resolve_folder
from biject.checkpoint.source import Source, open_source
from biject.errors import BijectError, ConfigError, WeightsError
from biject.model import Model
from biject.nn.addresses import align
from biject.tokenization.files import tokenizer_folder
from biject.verify.hf import quiet
from biject.verify.inputs import Case
from biject.verify.levels.adapter import AdapterSubject, adapter, on_cpu, stored
from biject.verify.machine import environment
from biject.verify.peft import unavailable
from biject.verify.prompt import prompt_case
from biject.verify.report import Check, LevelResult, Report, level_result

ADAPTER_LEVELS = ("stored", "adapter")


def verify_adapter(
    model: Model | None,
    folder: str | Path,
    *,
    base: str | Path | None = None,
    batches: Sequence[Mapping[str, Tensor]] = (),
    prompt: str | None = None,
    levels: Sequence[str] = ADAPTER_LEVELS,
) -> Report:
    """Prove that PEFT on `transformers` computes from an adapter's folder what the model computes.

    Args:
        model: With the adapter active, as training left it; None loads the folder with its base.
        folder: The adapter's.
        base: The base's folder or repository; left out, the one that adapter_config.json names.
        batches: Further inputs to compare on, without labels or with.
        prompt: A text to compare outputs on, besides.
        levels: Names out of `ADAPTER_LEVELS`.

    Raises:
        BijectError: The folder or its base cannot be read, or the prompt not be tokenized.
    """
    found = read_adapter(folder)
    if model is None:
        from biject.pretrained import load

        where = base_folder(found) if base is None else resolve_folder(base)
        try:
            model = load(where, adapter=found.folder, **found.quantization)
        except (ConfigError, WeightsError) as error:
            return _unloadable(found, where, error, levels)
    cases = [Case(name=f"data {index + 1}", inputs=batch) for index, batch in enumerate(batches)]
    if prompt is not None:
        size = model.config.vocab_size
        cases.append(
            prompt_case(tokenizer_folder(found.folder, base=model.source.folder), prompt, vocab_size=size)
        )
    reason = unavailable()
    with nullcontext() if reason else quiet(), on_cpu(model) as ours:
        align(ours)
        source, level = _base(found, ours, base)
        subject = AdapterSubject(stored=found, ours=ours, base=source, cases=cases)
        results = []
        if "stored" in levels:
            results.append(_run("stored", lambda: [*([level] if level else []), *stored(subject)]))
        if "adapter" in levels and reason is None:
            results.append(_run("adapter", lambda: adapter(subject)))
        elif "adapter" in levels:
            results.append(LevelResult(name="adapter", status="skipped", reason=reason))
    return _report(found, source, ours, results)


def _base(found: Stored, ours: Model, given: str | Path | None) -> tuple[Source, Check | None]:
    """The base that PEFT's users would load, and whether it is the model's own."""
    if given is not None:
        return open_source(resolve_folder(given)), None
    try:
        source = open_source(base_folder(found))
    except BijectError as error:
        return ours.source, Check(name="base", passed=False, detail=str(error))
    same = weights_fingerprint(source) == weights_fingerprint(ours.source)
    detail = "the model's own" if same else f"{source.folder} is not what the model was loaded from"
    return source, Check(name="base", passed=same, detail=detail)


def _unloadable(found: Stored, base: Path, error: BijectError, levels: Sequence[str]) -> Report:
    """What is reported where the adapter does not fit its base."""
    reason = "the adapter cannot be loaded into its base"
    results = [
        LevelResult(name=name, status="fail", reason=str(error))
        if index == 0
        else LevelResult(name=name, status="skipped", reason=reason)
        for index, name in enumerate(levels)
    ]
    return Report(
        folder=str(found.folder),
        source=str(base),
        levels=tuple(results),
        not_checked=(f"everything else: {reason}",),
    )


def _run(name: str, level: Callable[[], list[Check]]) -> LevelResult:
    """One level; an error on the way is a failed level with its message."""
    started = time.perf_counter()
    try:
        checks = level()
    except Exception as error:
        reason = str(error) if isinstance(error, BijectError) else f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - started
        return LevelResult(name=name, status="fail", reason=reason, seconds=seconds)
    return level_result(name, checks, seconds=time.perf_counter() - started)


def _report(found: Stored, source: Source, ours: Model, levels: Sequence[LevelResult]) -> Report:
    about: dict[str, Any] = {
        "family": ours.family.model_type,
        "head": ours.head_name,
        "class": ours.family.require_head(ours.head_name).hf_class,
        "rank": found.config.r,
        "alpha": found.config.lora_alpha,
        "quantization": None if ours.quantization is None else ours.quantization.method,
    }
    around = environment(dtype=ours.dtype, attention=ours.family.backend(source.config))
    if unavailable() is None:
        around["versions"]["peft"] = version("peft")
    sentences = [f"level {one.name}: {one.reason}" for one in levels if one.status == "skipped"]
    sentences += [
        "other devices than the CPU, other thread counts and batch shapes than the listed ones",
        "the base itself (verify-export of its folder does that)",
    ]
    return Report(
        folder=str(found.folder),
        source=str(source.folder),
        levels=tuple(levels),
        model=about,
        environment=around,
        not_checked=tuple(sentences),
    )
