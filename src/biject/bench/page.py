"""What was measured as a table between two markers of a page, and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from biject.errors import InputError

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
_SAME = ("processor", "cores", "torch", "omp_wait_policy")
_LIMITS = ("date", "gemm_flops", "bytes_per_second")
_CELL = ("model", "name", "dtype", "threads", "peer")
_ROW, _LEFT, _WIDE = 22, 400, 360


def read(paths: Sequence[Path]) -> dict[str, Any]:
    """What several runs wrote as one: all their cells, of one that was measured again the last, and the most
    that the machine was seen to do.

    Raises:
        InputError: a file is no bench.json, or two are of different machines.
    """
    cells: dict[tuple[Any, ...], Any] = {}
    machines: list[dict[str, Any]] = []
    for path in paths:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            cells |= {tuple(cell[key] for key in _CELL): cell for cell in found["cells"]}
            machines.append({key: found["machine"][key] for key in _SAME + _LIMITS} | found["machine"])
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is not what `biject bench --out DIR` writes as DIR/bench.json ({error!r})."
            ) from error
    first = machines[0]
    for path, other in zip(paths, machines, strict=True):
        differ = [key for key in _SAME if other[key] != first[key]]
        if differ:
            raise InputError(f"{path} is of another machine than {paths[0]}: {', '.join(differ)} differ.")
    flops: dict[str, dict[str, float]] = {}
    memory: dict[str, float] = {}
    for machine in machines:
        for count, kinds in machine["gemm_flops"].items():
            known = flops.setdefault(count, {})
            known |= {kind: max(most, known.get(kind, 0.0)) for kind, most in kinds.items()}
        for count, most in machine["bytes_per_second"].items():
            memory[count] = max(most, memory.get(count, 0.0))
    return {
        "machine": first | {"gemm_flops": flops, "bytes_per_second": memory},
        "cells": list(cells.values()),
    }


def table(found: Mapping[str, Any]) -> str:
    """Markdown: where it was measured, then a row a cell."""
    machine = found["machine"]
    limits = "; ".join(
        f"threads {count}: memory {machine['bytes_per_second'][count] / 1e9:.0f} GB/s, "
        + ", ".join(f"products {kind} {most / 1e9:.0f} GFLOP/s" for kind, most in flops.items())
        for count, flops in machine["gemm_flops"].items()
    )
    lines = [
        f"{machine['date']}, {machine['processor']}, {machine['cores']} cores, torch {machine['torch']}, "
        f"`OMP_WAIT_POLICY={machine['omp_wait_policy']}`. {limits}.",
        "",
        "| | dtype | threads | beside HF | padded/real | ratio | tokens/s, ours and HF | of the machine |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join(lines + [row(cell, machine) for cell in found["cells"]])


def row(cell: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """One cell as a line of the table; shares are of the most that the machine was seen to do."""
    ratio, rate = cell["ratio"], cell["real_tokens_per_second"]
    share = ""
    if "flops_per_second" in cell:
        used, most = cell["flops_per_second"], _of(machine["gemm_flops"], cell)
        share = f"MFU {used['ours'] / most:.0%}, HF {used['peer'] / most:.0%}"
    if "bytes_per_second" in cell:
        share = f"{cell['bytes_per_second'] / _of(machine['bytes_per_second'], cell):.0%} of the bandwidth"
    padded = "" if cell["padded_over_real"] is None else f"{cell['padded_over_real']:.2f}"
    return (
        f"| {cell['model']}: {cell['name']} | {cell['dtype']} | {cell['threads']} | {cell['peer']} "
        f"| {padded} | "
        f"**{ratio['median']:.2f}** ({ratio['min']:.2f}–{ratio['max']:.2f}) | "
        f"{rate['ours']:.0f}, {rate['peer']:.0f} | {share} |"
    )


def _of(limits: Mapping[str, Any], cell: Mapping[str, Any]) -> float:
    """The machine's limit with a cell's number of threads, and of its dtype."""
    found = limits[str(cell["threads"])]
    return float(found[cell["dtype"]] if isinstance(found, Mapping) else found)


def between_markers(page: str, text: str) -> str:
    """The page with what stands between its markers replaced.

    Raises:
        InputError: it does not have each marker once, in order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise InputError(
            f"the page should have {BEGIN} and then {END}, each once; put them where the table goes."
        )
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def picture(cells: Sequence[Mapping[str, Any]]) -> str:
    """SVG: a bar a cell, its spread as a line, and where both sides would be equal."""
    most = max((cell["ratio"]["max"] for cell in cells), default=1.0)
    scale, height = _WIDE / max(most, 1.0), _ROW * len(cells) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDE + 70}" height="{height}" '
        'font-family="sans-serif" font-size="12" role="img" aria-label="how many times as fast as its peer">'
        f'<rect width="100%" height="100%" fill="white"/>'
    ]
    for index, cell in enumerate(cells):
        ratio, y = cell["ratio"], 10 + _ROW * index
        name = escape(
            f"{cell['model']}, {cell['name']}, {cell['dtype']}, {cell['threads']} t, {cell['peer']}"
        )
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{name}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{ratio["median"] * scale:.1f}" height="15" fill="#4477aa"/>',
            f'<path d="M{_LEFT + ratio["min"] * scale:.1f} {y + 7}H{_LEFT + ratio["max"] * scale:.1f}" '
            'stroke="#222"/>',
            f'<text x="{_LEFT + ratio["max"] * scale + 6:.1f}" y="{y + 12}">{ratio["median"]:.2f}×</text>',
        ]
    at = _LEFT + scale
    parts.append(f'<path d="M{at:.1f} 4V{height - 8}" stroke="#cc3311" stroke-dasharray="4 3"/></svg>')
    return "\n".join(parts)
