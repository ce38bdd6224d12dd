"""Everything that needs a CUDA device, within nine minutes: the tests marked `gpu`, then the benchmark.

`python scripts/run_gpu.py build/gpu.json`: one JSON file with the machine, each test's outcome and time, and
the benchmark's cells. It is written anew after each part, so that what was found stays if time runs out.
Exit 1 where a test failed, 2 where there is no device.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from biject.bench.measure import Limits

LIMIT = 9 * 60
TESTS = 5 * 60
"""Of these for the tests at most."""
ROOT = Path(__file__).resolve().parents[1]
CELLS = (
    "encoder bert-base bfloat16 snippets",
    "encoder bert-base float32 snippets",
    "encoder bert-base bfloat16 long-tailed",
    "encoder deberta-v3-base bfloat16 snippets",
    "encoder minilm bfloat16 snippets",
    "decoder gpt2 bfloat16",
    "decoder qwen2-0.5b bfloat16",
)
"""In the order of their worth."""


def run_tests() -> dict[str, Any]:
    """Outcomes by test; what was running when time ran out is missing."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests", f"--junitxml={report}"]
        try:
            done = subprocess.run(
                command, cwd=ROOT, timeout=TESTS, check=False, capture_output=True, text=True
            )
            code, tail = done.returncode, done.stdout[-4000:]
        except subprocess.TimeoutExpired as error:
            code, tail = 124, str(error)
        return {"exit": code, "tail": tail, "tests": outcomes(report)}


def outcomes(report: Path) -> dict[str, dict[str, Any]]:
    """Of a JUnit file, which pytest writes at its end."""
    if not report.is_file():
        return {}
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):  # pytest's own
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        outcome = kinds[0] if kinds else "passed"
        found[f"{case.get('name')}"] = {"outcome": outcome, "seconds": float(case.get("time", 0))}
    return found


def run_cell(cell: str, limits: Limits) -> list[dict[str, Any]]:
    """One group of the benchmark."""
    from biject.bench.decoders import decoder_cells
    from biject.bench.encoders import PEERS, encoder_cells

    kind, shape, dtype, *rest = cell.split()
    if kind == "decoder":
        found = decoder_cells(shape, dtype, forms=("exact",), new=64, repeats=5, limits=limits)
    else:
        found = encoder_cells(shape, dtype, rest[0], peers=PEERS[:2], batches=8, repeats=5, limits=limits)
    return [one.to_json() for one in found]


def main() -> int:
    """Write what was found; see the module."""
    import torch

    out = Path(sys.argv[1] if len(sys.argv) > 1 else "build/gpu.json")
    if not torch.cuda.is_available():
        print("there is no CUDA device; nothing was run", file=sys.stderr)
        return 2
    started = time.monotonic()
    found: dict[str, Any] = {"cells": [], "not_run": []}

    def save() -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    found["tests"] = run_tests()
    save()
    from biject.bench.measure import Limits
    from biject.bench.run import Bench, Plan

    bench = Bench(Plan())
    limits = bench.limits.setdefault(torch.get_num_threads(), Limits(bench.device))
    for cell in CELLS:
        if time.monotonic() - started > LIMIT - 45:  # what a group takes at most
            found["not_run"].append(cell)
            continue
        try:
            found["cells"] += run_cell(cell, limits)
        except Exception as error:  # the others are worth having
            found["not_run"].append(f"{cell}: {type(error).__name__}: {error}")
        found["machine"] = bench.machine()
        save()
    found["seconds"] = time.monotonic() - started
    save()
    print(f"{out}: tests exited with {found['tests']['exit']}, {len(found['cells'])} cells")
    return 0 if found["tests"]["exit"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
