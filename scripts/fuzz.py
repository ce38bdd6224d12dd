"""Meets at least 20,000 spoilt checkpoints: `python scripts/fuzz.py [--count N] [--kinds a,b] [--keep DIR]`.

Each must end in success or in one of our errors, within 1 second of CPU time and 200 MB. Prints a line per
kind and a verdict; the exit code is 1 where one did not. A finding is made again by its kind and number.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from hostile.fuzz import KINDS, run


def main() -> int:
    """Run the kinds asked for."""
    parser = argparse.ArgumentParser(description="Fuzz the readers of checkpoints.")
    parser.add_argument("--count", type=int, default=21_000, help="inputs in all (21000)")
    parser.add_argument("--start", type=int, default=0, help="number of the first input of each kind")
    parser.add_argument("--kinds", default=",".join(KINDS), help="names, with commas")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="where bad inputs are kept")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    each = -(-options.count // len(kinds))
    numbers = range(options.start, options.start + each)
    tallies = run(dict.fromkeys(kinds, numbers), keep=options.keep, say=lambda line: print(line, flush=True))
    bad = [finding for tally in tallies.values() for finding in tally.bad]
    for kind, number, outcome in bad[:40]:
        print(f"BAD {kind} {number}: {outcome}"[:600])
    total = sum(sum(tally.words.values()) for tally in tallies.values())
    seconds = max(tally.seconds for tally in tallies.values())
    megabytes = max(tally.megabytes for tally in tallies.values())
    verdict = f"{'FAIL' if bad else 'PASS'} {total} inputs, {len(bad)} bad"
    print(f"VERDICT {verdict}; at most {seconds:.3f} s of CPU time and {megabytes:.0f} MB each")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
