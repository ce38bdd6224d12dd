"""`verify_export`: run the levels on one folder and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType

from biject.checkpoint.adapter import is_adapter
from biject.checkpoint.hub import resolve_folder
from biject.config.recipe import Backend
from biject.errors import BijectError, CheckpointError, ConfigError, InputError
from biject.verify.adapter import ADAPTER_LEVELS, verify_adapter
from biject.verify.claims import check_claims
from biject.verify.fallback import verify_folder
from biject.verify.faults.level import faults
from biject.verify.hf import quiet
from biject.verify.levels.lint import checks_of
from biject.verify.levels.trained import trained
from biject.verify.lint import claims_finding, lint, lint_unreadable
from biject.verify.machine import environment
from biject.verify.report import Finding, LevelResult, Report, level_result
from biject.verify.run import COMPARISONS, Level, run_level
from biject.verify.subject import ALLOWABLE, Subject

LEVELS: Mapping[str, Level] = MappingProxyType({**COMPARISONS, "faults": faults})
IN_MEMORY: Mapping[str, Level] = MappingProxyType({"trained": trained})
"""Levels of `verify_trained`, which need the model that was trained."""
ALL = "all"
"""Stands for every level where levels are named."""
ON_REQUEST = frozenset({"variants", "steps", "faults"})
NEED_NO_HF = frozenset({"lint", "names", "bytes"})


def verify_export(
    folder: str | Path,
    *,
    source: str | Path | None = None,
    prompt: str | None = None,
    levels: Sequence[str] | None = None,
    allow: Sequence[str] = (),
    backend: Backend = "biject",
) -> Report:
    """Prove that a folder is the model that it claims to be.

    Args:
        folder: The exported folder, or an adapter's.
        source: The folder or repository it was made from; without it, levels that need one are skipped. Of an
            adapter, its base; the one that it names where left out.
        prompt: A text to compare outputs on, besides the built-in inputs.
        levels: Names out of `LEVELS` (of an adapter `ADAPTER_LEVELS`), or `all`; where left out, all but
            `variants`, `steps` and `faults`, and `lint` only where there is no source (a faithful export
            has its source's flaws).
        allow: Differences from the source to let pass though the export does not declare them: some of
            `cast`, `config`, `files`, `text`.
        backend: `hf` for any architecture of transformers: levels `reload` and `forward` alone.

    Raises:
        InputError: No such level or allowance, the source is the folder itself, or the prompt cannot be
            tokenized.
        BijectError: A folder cannot be read at all, or is of a family that Biject does not know.
    """
    if backend == "hf" or is_adapter(Path(folder)):
        return _other(folder, source=source, prompt=prompt, levels=levels, allow=allow, backend=backend)
    chosen = _chosen(levels, with_source=source is not None)
    if not set(allow) <= set(ALLOWABLE):
        raise InputError(f"allow {', '.join(allow)}: there are {', '.join(ALLOWABLE)}.")
    needs_hf = not NEED_NO_HF.issuperset(chosen) or prompt is not None
    with quiet() if needs_hf else nullcontext():  # raises, first of all, if transformers is not installed
        origin = None if source is None else resolve_folder(source)
        if origin is not None and Path(folder).is_dir() and Path(folder).samefile(origin):
            raise InputError(
                f"--source is {folder} itself, and a folder always equals itself: give what it was made "
                "from, or no source."
            )
        try:
            subject = Subject(Path(folder), source=origin, prompt=prompt, allowed=allow)
        except CheckpointError:
            found = lint_unreadable(Path(folder)) if "lint" in chosen else []
            if not found:
                raise
            return _unreadable(Path(folder), found, chosen)
        try:
            check_claims(subject.export)
        except ConfigError as error:
            if "lint" not in chosen:
                raise
            return _unreadable(Path(folder), [claims_finding(error)], chosen)
        if subject.source is not None:
            check_claims(subject.source)
        try:
            _ = subject.family
        except ConfigError:
            if "lint" not in chosen:
                raise
            return _unreadable(Path(folder), lint(subject.export), chosen)
    return verify_subject(subject, levels=chosen)


def _other(
    folder: str | Path,
    *,
    source: str | Path | None,
    prompt: str | None,
    levels: Sequence[str] | None,
    allow: Sequence[str],
    backend: Backend,
) -> Report:
    """The report of an adapter's folder, or of one of transformers' own architectures."""
    if backend != "hf":
        return verify_adapter(None, folder, base=source, prompt=prompt, levels=_adapter_levels(levels, allow))
    if source is not None or prompt is not None or levels or allow:
        raise InputError(
            "backend='hf' proves a folder by itself (levels reload and forward): leave out source, prompt, "
            "levels and allow."
        )
    return verify_folder(folder)


def _adapter_levels(levels: Sequence[str] | None, allow: Sequence[str]) -> tuple[str, ...]:
    """The levels of an adapter's folder that are asked for."""
    if allow:
        raise InputError(f"allow {', '.join(allow)}: an adapter has no source to differ from.")
    unknown = [name for name in levels or () if name not in (*ADAPTER_LEVELS, ALL)]
    if unknown:
        raise InputError(
            f"no level {', '.join(unknown)} of an adapter's folder; there are {', '.join(ADAPTER_LEVELS)}, "
            f"and {ALL}."
        )
    return ADAPTER_LEVELS if levels is None or ALL in levels else tuple(levels)


def _unreadable(folder: Path, found: list[Finding], chosen: Sequence[str]) -> Report:
    """The linter's report of a folder that no other level can load."""
    reason = "the folder cannot be loaded"
    others = [LevelResult(name=name, status="skipped", reason=reason) for name in chosen if name != "lint"]
    levels = (level_result("lint", checks_of(found)), *others)
    return Report(folder=str(folder), source=None, levels=levels, not_checked=(f"everything else: {reason}",))


def verify_subject(subject: Subject, *, levels: Sequence[str]) -> Report:
    """Run the named levels on what is already open; faults are planted through here."""
    _ = subject.family  # an unknown family is unusable input, not a failed level
    if subject.prompt is not None:
        _ = subject.cases
    every = {**LEVELS, **IN_MEMORY}
    results = tuple(run_level(name, subject, levels=every) for name in levels)
    return Report(
        folder=str(subject.folder),
        source=None if subject.source is None else str(subject.source.folder),
        levels=results,
        model=_model(subject),
        environment=environment(dtype=subject.dtype, attention=subject.family.backend(subject.config)),
        not_checked=_not_checked(subject, results),
    )


def _chosen(levels: Sequence[str] | None, *, with_source: bool) -> tuple[str, ...]:
    if levels is None:
        left_out = ON_REQUEST | ({"lint"} if with_source else set())
        return tuple(name for name in LEVELS if name not in left_out)
    if tuple(levels) == (ALL,):
        return tuple(LEVELS)
    unknown = [name for name in levels if name not in LEVELS]
    if set(unknown) & set(IN_MEMORY):
        raise InputError("level trained needs the model in memory: verify_trained(model, folder).")
    if unknown or not levels:
        wrong = ", ".join(unknown) or "was named"
        raise InputError(f"no level {wrong}; there are {', '.join(LEVELS)}, and {ALL}.")
    return tuple(name for name in LEVELS if name in levels)


def _model(subject: Subject) -> dict[str, object]:
    facts: dict[str, object] = {"family": subject.family.model_type}
    facts["dtype"] = str(subject.dtype).removeprefix("torch.")
    facts["tensors"] = len(subject.export.tensors)
    try:
        facts |= {"class": subject.named_class, "head": subject.head}
    except BijectError as error:
        facts["head"] = f"unknown: {error}"
    return facts


def _not_checked(subject: Subject, results: Sequence[LevelResult]) -> tuple[str, ...]:
    """What a reader might take for granted and no level looked at."""
    sentences = [f"level {result.name}: {result.reason}" for result in results if result.status == "skipped"]
    left_out = [name for name in LEVELS if name not in {result.name for result in results}]
    sentences += [f"levels not requested: {', '.join(left_out)}"] if left_out else []
    sentences += ["other devices than the CPU, other thread counts and batch shapes than the listed ones"]
    if "tokenizer" not in {result.name for result in results}:
        sentences += ["the tokenizer's ids (its files are compared as bytes, with a source)"]
    passthrough = _passthrough(subject)
    if passthrough:
        sentences.append(
            f"{passthrough} passthrough tensors: compared as bytes where there is a source, used by no output"
        )
    if subject.source is None:
        sentences.append("that the weights are those of any other checkpoint (no source was given)")
    return tuple(sentences)


def _passthrough(subject: Subject) -> int:
    """How many tensors the export passes through, if the model was loaded."""
    return len(subject.ours.provenance.plan.passthrough) if "ours" in vars(subject) else 0
