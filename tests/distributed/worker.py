"""One rank: runs every case and writes what came of it. `torchrun worker.py FOLDER OUT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from cases import CASES

from biject.train import ranks


def main() -> None:
    torch.set_num_threads(1)
    ranks.start()
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    results = {name: case(folder, out) for name, case in CASES.items()}
    (out / f"rank-{ranks.rank()}.json").write_text(json.dumps(results))


main()
