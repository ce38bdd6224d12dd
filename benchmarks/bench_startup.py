"""CPU time of starting up, the interpreter included: medians over fresh processes, against their budgets."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MINILM = ROOT / ".cache" / "real" / "all-MiniLM-L6-v2"
RUNS = 15


def cpu_seconds(command: list[str]) -> float:
    """User and system time of one child process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Print a table; 1 where a budget is exceeded."""
    biject = [str(Path(sys.executable).with_name("biject"))]
    cases = [
        ("python -c pass", [sys.executable, "-c", "pass"], None),
        ("import biject", [sys.executable, "-c", "import biject"], 0.06),
        ("biject --help", [*biject, "--help"], 0.15),
        ("biject export --help", [*biject, "export", "--help"], 0.15),
    ]
    if MINILM.is_dir():
        cases.append(("biject inspect (91 MB)", [*biject, "inspect", str(MINILM)], 0.5))
    else:
        print("biject inspect (91 MB): not measured, run scripts/fetch_real.py first")
    exceeded = 0
    for name, command, budget in cases:
        times = sorted(cpu_seconds(command) for _ in range(RUNS))
        median = statistics.median(times)
        exceeded += budget is not None and median > budget
        limit = (
            "" if budget is None else f"  budget {budget:.2f} s {'ok' if median <= budget else 'EXCEEDED'}"
        )
        print(f"{name:<24} median {median:.3f} s  range {times[0]:.3f}–{times[-1]:.3f} s{limit}")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
