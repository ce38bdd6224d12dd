"""`verify_matrix`: every family with every head, on references made on the spot or from the Hub."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from biject.config.adapter import LoraConfig
from biject.errors import BijectError, InputError, WeightsError
from biject.events import progress
from biject.families import ALL_HEADS
from biject.families import families as registry
from biject.verify.hub_lock import lock_path, pinned_folder, read_lock
from biject.verify.hub_models import HUB_MODELS
from biject.verify.memory import PeakMemory
from biject.verify.report import LevelResult, Report, listed

LEVELS = ("names", "bytes", "reload", "hf-forward", "forward", "gradients", "variants", "tokenizer")
"""What a family has to pass with each head; the linter looks at folders, and these are made here."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One family with one head: its report, or the error that kept it from having one."""

    family: str
    head: str
    report: Report | None
    error: str | None
    seconds: float
    peak_memory_bytes: int | None

    @property
    def passed(self) -> bool:
        """Every level passed that has a meaning for the model; with a source there is none to skip."""
        return self.report is not None and not self.failed_levels

    @property
    def inapplicable_levels(self) -> tuple[str, ...]:
        """Levels without a meaning for the model: of a tokenizer where it reads pictures."""
        levels = self.report.levels if self.report is not None else ()
        return tuple(level.name for level in levels if level.status == "n/a")

    @property
    def failed_levels(self) -> tuple[str, ...]:
        """Levels that did not pass; `export` where it did not get that far."""
        if self.report is None:
            return ("export",)
        return tuple(level.name for level in self.report.levels if level.status not in ("pass", "n/a"))


@dataclass(frozen=True, kw_only=True)
class MatrixResult:
    """The grid."""

    weights: str
    cells: tuple[Cell, ...] = field(default_factory=tuple)

    @property
    def passed(self) -> bool:
        """There are cells, and all passed."""
        return bool(self.cells) and all(cell.passed for cell in self.cells)

    def grid(self) -> tuple[list[str], list[list[str]]]:
        """Heads as columns, families as rows: (header, rows), a cell `PASS`, `FAIL levels` or `-`."""
        heads = [head for head in ALL_HEADS if any(cell.head == head for cell in self.cells)]
        found = {(cell.family, cell.head): cell for cell in self.cells}
        rows = []
        for name in dict.fromkeys(cell.family for cell in self.cells):
            cells = [found.get((name, head)) for head in heads]
            rows.append([name, *("-" if cell is None else _word(cell) for cell in cells)])
        return ["family", *heads], rows

    def verdict(self) -> str:
        """One line, e.g. `VERDICT PASS 30/30 cells (tiny weights)`."""
        count = sum(cell.passed for cell in self.cells)
        word = "PASS" if self.passed else "FAIL"
        return f"VERDICT {word} {count}/{len(self.cells)} cells ({self.weights} weights)"

    def lines(self) -> list[str]:
        """The grid as text, what went wrong, then one verdict."""
        header, rows = self.grid()
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        lines = ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
                 for row in [header, *rows]]  # fmt: skip
        for cell in self.cells:
            lines += _problems(cell)
        return [*lines, self.verdict()]

    def to_json(self, *, indent: int | None = 2) -> str:
        """The grid with every cell's whole report."""
        cells: list[dict[str, Any]] = []
        for cell in self.cells:
            report = None if cell.report is None else json.loads(cell.report.to_json())
            cells.append({**vars(cell), "passed": cell.passed, "report": report})
        value = {"passed": self.passed, "weights": self.weights, "cells": cells}
        return json.dumps(value, indent=indent, ensure_ascii=False)


def _word(cell: Cell) -> str:
    left = f" ({','.join(cell.inapplicable_levels)} n/a)" if cell.inapplicable_levels else ""
    return ("PASS" if cell.passed else f"FAIL {','.join(cell.failed_levels)}") + left


def _problems(cell: Cell) -> list[str]:
    """Lines for what did not pass in a cell."""
    place = f"{cell.family} {cell.head}"
    if cell.report is None:
        return [f"FAIL {place}: {cell.error}"]
    wrong = [level for level in cell.report.levels if level.name in cell.failed_levels]
    lines = [line for level in wrong for line in level.lines() if not line.startswith("PASS")]
    return [f"{place}: {line}" for line in lines]


def verify_matrix(
    *,
    families: Sequence[str] | None = None,
    heads: Sequence[str] | None = None,
    weights: Literal["tiny", "base", "hub"] = "tiny",
    lock: str | Path | None = None,
    keep: str | Path | None = None,
    on_cell: Callable[[Cell], None] | None = None,
) -> MatrixResult:
    """Make a reference for each cell, export it with Biject, verify the export; go on after failures.

    Args:
        families: `model_type`s; all where left out.
        heads: Names out of `ALL_HEADS`; all where left out.
        weights: Sizes of the references; `hub` takes the repositories of `HUB_MODELS` in their place.
        lock: The lock file of their revisions; see `biject.verify.hub_lock.lock_path`.
        keep: Leave references, exports and reports in `keep/FAMILY/HEAD/` instead of a temporary folder.
        on_cell: Called with each finished cell.

    Raises:
        InputError: No such family, head or size; `keep` holds one of these cells already.
    """
    chosen = cells(families, heads)
    if weights not in ("tiny", "base", "hub"):
        raise InputError(f"weights are `tiny`, `base` or `hub`, not {weights!r}.")
    pins = lock_path(lock) if weights == "hub" else None
    if pins is not None:
        chosen = [cell for cell in chosen if cell in HUB_MODELS]
        read_lock(pins)  # a damaged one is no cell's fault
    if keep is not None:
        _refuse_kept(Path(keep), chosen)
    done: list[Cell] = []
    for name, head in chosen:
        with tempfile.TemporaryDirectory(prefix="biject-matrix-") as temporary:
            folder = Path(temporary if keep is None else keep) / name / head
            cell = verify_cell(name, head, folder, weights=weights, lock=pins)
            if keep is not None and cell.report is not None:
                (folder / "report.json").write_text(cell.report.to_json() + "\n", encoding="utf-8")
        done.append(cell)
        progress("verify-matrix", len(done), len(chosen), unit="cells")
        if on_cell is not None:
            on_cell(cell)
    return MatrixResult(weights=weights, cells=tuple(done))


def _refuse_kept(keep: Path, chosen: Sequence[tuple[str, str]]) -> None:
    """Refuse a folder with results of an earlier run, before anything is made; nothing of it is removed."""
    held = [f"{name}/{head}" for name, head in chosen if (keep / name / head).exists()]
    if held:
        raise InputError(
            f"--keep: {keep} holds {listed(held)} already, and what is kept is not replaced: name another "
            "folder, or remove them."
        )
    if keep.exists() and not keep.is_dir():
        raise InputError(f"--keep: {keep} is a file; a folder is expected.")


def cells(families: Sequence[str] | None, heads: Sequence[str] | None) -> list[tuple[str, str]]:
    """Pairs of a family and a head that it has; all where nothing is named.

    Raises:
        InputError: No such family or head.
    """
    requested, known = _heads(heads), registry()
    return [(name, head) for name in _families(families) for head in requested if head in known[name].heads]


def verify_cell(name: str, head: str, folder: Path, *, weights: str, lock: Path | None = None) -> Cell:
    """Reference, export and verification of one cell inside `folder`."""
    started = time.perf_counter()
    report, problem = None, None
    with PeakMemory() as memory:
        try:
            report = _export_and_verify(name, head, folder, weights=weights, lock=lock)
        except Exception as error:  # the next cell must run
            problem = str(error) if isinstance(error, BijectError) else f"{type(error).__name__}: {error}"
    return Cell(
        family=name,
        head=head,
        report=report,
        error=problem,
        seconds=round(time.perf_counter() - started, 3),
        peak_memory_bytes=memory.peak_bytes,
    )


def _export_and_verify(name: str, head: str, folder: Path, *, weights: str, lock: Path | None) -> Report:
    from biject.pretrained import load
    from biject.verify.export import verify_export
    from biject.verify.reference import make_reference

    if lock is not None:
        source = pinned_folder(HUB_MODELS[name, head], lock)
    else:
        source = make_reference(name, head, folder / "source", size=weights)
    model = load(source, head="auto")
    if lock is not None and (model.family.model_type, model.head_name) != (name, head):
        raise WeightsError(
            f"{HUB_MODELS[name, head]} should be `{name}` with head `{head}`, but is "
            f"`{model.family.model_type}` with head `{model.head_name}`."
        )
    model.save_pretrained(folder / "export")
    report = verify_export(folder / "export", source=source, levels=LEVELS)
    return replace(report, levels=(*report.levels, _adapter(folder / "export", folder / "adapter")))


def _adapter(base: Path, folder: Path) -> LevelResult:
    """Level `adapter` of a random one on the exported model: PEFT on HF's gives the same bits."""
    from biject.pretrained import load
    from biject.verify.adapter import verify_adapter

    model = load(base, head="auto")
    torch.manual_seed(0)
    wanted = None if model.family.slices else "all-linear"  # beside experts there is no adapter
    model.add_adapter(LoraConfig(r=4, init_lora_weights=False, target_modules=wanted))
    model.save_adapter(folder)
    return verify_adapter(model, folder, levels=("adapter",)).levels[-1]


def _families(names: Sequence[str] | None) -> tuple[str, ...]:
    known = tuple(registry())
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise InputError(f"no family {', '.join(unknown)}; there are {', '.join(known)}.")
    return known if names is None else tuple(names)


def _heads(names: Sequence[str] | None) -> tuple[str, ...]:
    unknown = [name for name in names or () if name not in ALL_HEADS]
    if unknown:
        raise InputError(f"no head {', '.join(unknown)}; there are {', '.join(ALL_HEADS)}.")
    return ALL_HEADS if names is None else tuple(names)
