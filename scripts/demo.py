"""`make demo`: two real checkpoints go both ways, and the result is proved.

Every step is a `biject` command as a user would type it; the demo stops at the first that fails.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys

from fetch_real import ROOT, fetch

OUT = ROOT / ".demo"
PROMPTS = {
    "all-MiniLM-L6-v2": "A round trip that changes nothing.",
    "bert-tiny-mlm": "Paris is the [MASK] of France.",
}


def biject(*arguments: object) -> None:
    """Run one command, shown first."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ biject {shlex.join(words)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "biject.cli.main", *words], cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"demo: that exited with {done.returncode}; it should be 0")


def main() -> None:
    """Inspect, export and verify each checkpoint."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    for name, prompt in PROMPTS.items():
        source = fetch(name).relative_to(ROOT)
        exported = (OUT / name).relative_to(ROOT)
        biject("inspect", source)
        biject("export", "--hub", source, "--out", exported)
        biject("verify-export", exported, "--source", source, "--prompt", prompt)
    print(f"\ndemo: {len(PROMPTS)} checkpoints went both ways; the exports are in {OUT.relative_to(ROOT)}/")


if __name__ == "__main__":
    main()
