"""`make demo`: a round trip, then MiniLM fine-tuned on real sentences, exported, proved, and asked.

Every step is a `biject` command as a user would type it; the demo stops at the first that fails.
"""

from __future__ import annotations

import csv
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from fetch_data import fetch as fetch_snippets
from fetch_real import ROOT, fetch

OUT = ROOT / ".demo"
ROWS = 1200
"""Of the 10,072 snippets, so that the demo takes two minutes on two cores."""

NEW = (
    "A warm, funny film that I would gladly see again.",
    "Two hours of my life that I will never get back.",
    "The plot is thin, but the actors are a delight.",
)


def biject(*arguments: object) -> None:
    """Run one command, shown first."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ biject {shlex.join(words)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "biject.cli.main", *words], cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"demo: that exited with {done.returncode}; it should be 0")


def some_of(snippets: Path, path: Path) -> Path:
    """Rows from all over the file."""
    with snippets.open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows[i * len(rows) // ROWS] for i in range(ROWS))
    return path


def main() -> None:
    """Both ways without a change, then with training in between."""
    started = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    here = OUT.relative_to(ROOT)
    tiny = fetch("bert-tiny-mlm").relative_to(ROOT)
    biject("export", "--hub", tiny, "--out", here / "bert-tiny")
    biject("verify-export", here / "bert-tiny", "--source", tiny, "--level", "names,bytes,reload")

    minilm = fetch("all-MiniLM-L6-v2").relative_to(ROOT)
    data = some_of(fetch_snippets(), OUT / "snippets.csv").relative_to(ROOT)
    biject("inspect", minilm)
    biject(
        "finetune", "--model", minilm, "--data", data, "--task", "seqcls", "--out", here / "run",
        "--epochs", 1, "--batch-size", 16, "--lr", "1e-4", "--max-length", 64,
    )  # fmt: skip
    biject("export", "--checkpoint", here / "run", "--out", here / "reviews")
    biject("predict", here / "reviews", *NEW)
    seconds = time.monotonic() - started
    print(
        f"\ndemo: {seconds:.0f} s; the model is in {here}/reviews, the run in {here}/run (open report.html)"
    )


if __name__ == "__main__":
    main()
