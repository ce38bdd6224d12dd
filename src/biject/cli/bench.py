"""`biject bench`."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from biject.cli.flags import Json, Switch


def bench(
    *,
    quick: Switch = False,
    threads: Annotated[tuple[int, ...], Parameter(metavar="N", negative=())] = (),
    model: Annotated[tuple[str, ...], Parameter(metavar="NAME", negative=())] = (),
    lengths: Annotated[tuple[str, ...], Parameter(metavar="KIND", negative=())] = (),
    compiled: Switch = False,
    earlier: Annotated[tuple[Path, ...], Parameter(name="--from", metavar="FILE", negative=())] = (),
    out: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    table: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    json: Json = False,
) -> int:
    """Measure Biject beside transformers on this machine, in one process, in turns.

    Encoders (inference, training with AdamW and dropout; numerics exact and fast) beside transformers in the
    given order and with batches of one length; decoding beside its generate. Ratios are medians with their
    range. What was measured until Ctrl-C is written, too.

    Args:
        quick: Two small models and two pairs a cell: about a minute.
        threads: Of torch; may be given several times; its own choice where left out.
        model: Measure this one only; may be given several times.
        lengths: Of encoders' texts: mixed, snippets, long-tailed or equal; may be given several times.
        compiled: Beside transformers under torch.compile as well.
        earlier: Measure nothing, take what an earlier run wrote (bench.json); may be given several times, the
            last counts for a cell.
        out: A folder for bench.json and bench.svg.
        table: A page that gets the table between its two bench markers.
    """
    from biject.bench.page import between_markers, picture, read, row
    from biject.bench.page import table as table_of
    from biject.bench.run import Bench, Plan
    from biject.cli.console import print_json, print_lines

    page = None if table is None else table.read_text(encoding="utf-8")
    if page is not None:
        between_markers(page, "")  # before minutes are spent

    def write(found: dict[str, Any]) -> None:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / "bench.json").write_text(json_module.dumps(found, indent=1) + "\n", encoding="utf-8")
            (out / "bench.svg").write_text(picture(found["cells"]) + "\n", encoding="utf-8")
        if table is not None and page is not None and found["cells"]:
            table.write_text(between_markers(page, table_of(found)), encoding="utf-8")

    if earlier:
        found = read(earlier)
        if not json:
            print_lines([row(cell, found["machine"]) for cell in found["cells"]])
        write(found)
    else:
        run = Bench(Plan(quick=quick, threads=threads, compiled=compiled, models=model, lengths=lengths))
        measured: list[dict[str, Any]] = []
        try:
            for cell in run.cells():
                measured.append(cell.to_json())
                if not json:
                    print_lines([row(measured[-1], run.machine())])
        finally:  # what was measured until an interruption is worth its minutes
            found = {"machine": run.machine(), "cells": measured}
            write(found)
    if json:
        print_json(found)
    return 0
