"""The cadence on 1,024 ranks of mixed speed, in simulated time: waste, anchor, and what a decision costs.

`python scripts/simulate_ranks.py [RANKS]`. Each rank's batch takes 25 to 200 ms, 10 % more or less each time.
"""

from __future__ import annotations

import sys

import numpy as np

from biject.distributed.simulate import simulate


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    draw = np.random.default_rng(1)
    ms = draw.choice([25.0, 40.0, 60.0, 100.0, 200.0], count) * draw.uniform(0.9, 1.1, count)
    print("meeting ms  waste   overhead  anchor, last 10 meetings        decision ms: median, longest")
    for sync_ms in (200, 600, 1500):
        found = simulate(ms.tolist(), sync_ms=sync_ms, rounds=40)
        anchors = sorted(set(found.anchors[-10:]))
        print(
            f"{sync_ms:10d} {found.waste:6.2%} {found.overhead:9.3f}  {anchors!s:30}"
            f" {found.median_ms:8.2f} {found.decision_ms:8.2f}"
        )


main()
