"""`watch_versions`: each release writes checkpoints, Biject reads them, both compute, files are compared."""

from __future__ import annotations

import platform
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from biject.checkpoint.source import open_source
from biject.errors import InputError
from biject.events import progress
from biject.families import family
from biject.verify.reference import reference_config
from biject.verify.subject import resolved_by_tensors
from biject.verify.versions import compare, ours
from biject.verify.versions.environments import Environment, check_release, environment
from biject.verify.versions.exchange import Job, ask
from biject.verify.versions.result import Finding, Release, Watch, WatchedCell

_UNUSUAL = {"rope_theta": 5000.0, "global_rope_theta": 90000.0, "local_rope_theta": 5000.0}
"""Settings that no family's tiny config has, and that releases spell differently: defaults would hide it."""


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What Biject made of a folder that a release wrote."""

    export: Path
    inputs: Path
    computed: ours.Computed
    findings: tuple[Finding, ...]


def watch_versions(
    releases: Sequence[str],
    cells: Sequence[tuple[str, str]],
    *,
    env_dir: Path | None = None,
    constraints: Path | None = None,
    keep: Path | None = None,
    environments: Sequence[Environment] | None = None,
    on_release: Callable[[Release], None] | None = None,
) -> Watch:
    """Compare releases of transformers with Biject, and with each other.

    Args:
        releases: E.g. `("4.57.6", "5.0", "5.23.0")`; see `environments.environment`.
        cells: Pairs of a family and a head.
        env_dir: Where the releases' environments are kept.
        constraints: Pins for them.
        keep: Leave everything that was written in this folder.
        environments: Of the releases, if they are made already.
        on_release: Called with each finished release.

    Raises:
        InputError: No such release, or two that are the same; no pip, no index; `keep` holds something.
    """
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise InputError(f"--keep: {keep} holds something already; a new folder is expected.")
    if not cells:
        raise InputError("no family has the heads that were named, so there is nothing to compare.")
    for text in releases:
        check_release(text)
    made = environments or [environment(text, folder=env_dir, constraints=constraints) for text in releases]
    made = sorted(made, key=lambda one: _order(one.version))
    twice = {one.version for one in made if sum(one.version == other.version for other in made) > 1}
    if twice:
        raise InputError(f"--transformers names {', '.join(sorted(twice))} more than once.")
    with tempfile.TemporaryDirectory(prefix="biject-versions-") as temporary:
        top = (keep or Path(temporary)).resolve()
        done: list[Release] = []
        newest: dict[tuple[str, str], _Read] = {}
        newest_version: str | None = None
        for one in reversed(made):  # the newest first: the others are given its files
            release, read = _watch_release(one, cells, top / one.version, newest)
            newest_version = newest_version or (one.version if read else None)
            newest = newest or read
            done.append(release)
            if on_release is not None:
                on_release(release)
    return Watch(releases=tuple(reversed(done)), about=_about(), newest=newest_version)


def _order(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _about() -> dict[str, Any]:
    from biject._version import __version__

    return {
        "date": time.strftime("%Y-%m-%d"),
        "biject": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def _watch_release(
    one: Environment, cells: Sequence[tuple[str, str]], top: Path, newest: Mapping[tuple[str, str], _Read]
) -> tuple[Release, dict[tuple[str, str], _Read]]:
    """One release's cells, and what Biject read of its folders."""
    places = {cell: top / f"{cell[0]}-{cell[1]}" for cell in cells}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    written = _ask(one, {cell: _make_job(cell, places[cell]) for cell in cells}, top / "make", "writes")
    found = {cell: _start(cell, answer) for cell, answer in written.items()}
    read: dict[tuple[str, str], _Read] = {}
    for count, cell in enumerate(cells, 1):
        if found[cell].error is None and found[cell].absent is None:
            try:
                read[cell] = _read(cell, places[cell])
            except Exception as error:  # the next cell must run
                found[cell] = replace(found[cell], error=f"not read: {type(error).__name__}: {error}")
        progress(f"transformers {one.version}: Biject reads", count, len(cells), unit="cells")
    own = _computed(one, read, top / "compute", {cell: places[cell] for cell in read})
    others = {cell: newest[cell] for cell in read if cell in newest}
    of_newest = _computed(one, others, top / "newest", {cell: places[cell] / "newest" for cell in others})
    for cell in read:
        newer = (others[cell], of_newest[cell]) if cell in others else None
        found[cell] = _finished(found[cell], read[cell], own[cell], places[cell], newer)
    release = Release(requested=one.requested, version=one.version, cells=tuple(found.values()))
    return release, read


def _make_job(cell: tuple[str, str], place: Path) -> Job:
    model_type, head = cell
    known = family(model_type)
    unusual = {key: value for key, value in _UNUSUAL.items() if key in known.config.known}
    return {
        "do": "make",
        "class": known.heads[head].hf_class,
        "model_type": model_type,
        "config": {**reference_config(model_type), **unusual},
        "folder": str(place / "source"),
    }


def _start(cell: tuple[str, str], answer: Mapping[str, Any]) -> WatchedCell:
    error = answer.get("error")
    text = None if error is None else f"the release cannot write it: {error}"
    return WatchedCell(family=cell[0], head=cell[1], absent=answer.get("absent"), error=text)


def _read(cell: tuple[str, str], place: Path) -> _Read:
    """Read, write again, compute."""
    notices = ours.export(place / "source", place / "export")
    findings = [Finding(kind="names", detail=text) for text in notices if "unknown" in text.partition(":")[0]]
    findings += compare.round_trip(place / "source", place / "export")
    cases = ours.write_inputs(place / "export", cell[1], place / "inputs.safetensors")
    return _Read(
        export=place / "export",
        inputs=place / "inputs.safetensors",
        computed=ours.compute(place / "export", cases),
        findings=tuple(findings),
    )


@dataclass(frozen=True, kw_only=True)
class _Theirs:
    answer: dict[str, Any]
    computed: ours.Computed | None


def _computed(
    one: Environment,
    read: Mapping[tuple[str, str], _Read],
    files: Path,
    places: Mapping[tuple[str, str], Path],
) -> dict[tuple[str, str], _Theirs]:
    """What a release makes of exports."""
    if not read:
        return {}
    jobs = {}
    for cell, mine in read.items():
        places[cell].mkdir(parents=True, exist_ok=True)
        known, source = family(cell[0]), open_source(mine.export)
        jobs[cell] = {
            "do": "compute",
            "class": known.heads[cell[1]].hf_class,
            "attention": known.backend(source.config),
            "overrides": resolved_by_tensors(source),
            "folder": str(mine.export),
            "inputs": str(mine.inputs),
            "outputs": str(places[cell] / "outputs.safetensors"),
            "gradients": str(places[cell] / "gradients"),
        }
    answers = _ask(one, jobs, files, f"computes {files.name} files" if files.name == "newest" else "computes")
    return {
        cell: _Theirs(answer=answer, computed=None if "error" in answer else _stored(jobs[cell]))
        for cell, answer in answers.items()
    }


def _stored(job: Job) -> ours.Computed:
    """What the release left in files."""
    from safetensors.torch import load_file

    gradients = {
        f"{folder.name}|{name}": tensor
        for folder in Path(job["gradients"]).iterdir()
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    return ours.Computed(outputs=load_file(job["outputs"]), gradients=gradients)


def _differences(mine: _Read, theirs: _Theirs) -> tuple[Finding, ...]:
    if theirs.computed is None:
        return (Finding(kind="names", detail=f"cannot be loaded or run: {theirs.answer['error']}"),)
    found = compare.loaded(theirs.answer)
    found += compare.outputs(
        mine.computed.outputs,
        theirs.computed.outputs,
        refused=theirs.answer["refused"],
        real=mine.computed.real,
    )
    return (*found, *compare.gradients(mine.computed.gradients, theirs.computed.gradients))


def _finished(
    cell: WatchedCell, mine: _Read, theirs: _Theirs, place: Path, newest: tuple[_Read, _Theirs] | None
) -> WatchedCell:
    """A cell with all that was found."""
    traits = None
    if theirs.computed is not None:
        traits = compare.traits(place / "source", theirs.computed.outputs, theirs.computed.gradients)
    return replace(
        cell,
        findings=(*mine.findings, *_differences(mine, theirs)),
        of_newest=None if newest is None else _differences(*newest),
        traits=traits,
    )


def _ask(
    one: Environment, jobs: Mapping[tuple[str, str], Job], files: Path, doing: str
) -> dict[tuple[str, str], dict[str, Any]]:
    label = f"transformers {one.version} {doing}"
    on_done = partial(progress, label, total=len(jobs), unit="cells")
    answers = ask(one, list(jobs.values()), files, on_done=on_done)
    return dict(zip(jobs, answers, strict=True))
