"""`--task embed` under torchrun: ranks evaluate apart, and find what one process does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from biject.verify.reference import make_reference
from distributed.test_sharded_finetune import biject


def test_two_processes_evaluate_as_one(write_data: Any, tmp_path: Path) -> None:
    """At a rate so small that the model stays what it is: a loss of embeddings depends on the batch."""
    base = make_reference("bert", "base", tmp_path / "base")
    what = ("--model", base, "--data", write_data(tmp_path, "embed"), "--task", "embed", "--no-verify")
    what += ("--batch-size", 4, "--max-steps", 2, "--lr", "1e-12")
    found = []
    for count in (2, 1):
        done = biject(count, *what, "--out", tmp_path / str(count))
        assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-3000:]
        found.append([line for line in done.stdout.splitlines() if line.startswith("EVALUATION")])
    assert found[0] == found[1]
    assert "ndcg@10" in found[0][0]
