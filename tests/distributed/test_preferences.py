"""`--task dpo` and `--task reward` under torchrun: the steps of one process, and its reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from biject.verify.reference import make_reference
from distributed.test_sharded import OFF
from distributed.test_sharded_finetune import STEPS, biject, close


@pytest.mark.parametrize(
    ("task", "method"),
    [
        ("dpo", "lora"),
        pytest.param("dpo", "full", marks=pytest.mark.slow),
        pytest.param("reward", "full", marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_as_one(task: str, method: str, write_data: Any, tmp_path: Path) -> None:
    base = make_reference("llama", "causal", tmp_path / "base", overrides=OFF["llama"])
    what = ("--model", base, "--data", write_data(tmp_path, task), "--task", task, "--method", method, *STEPS)
    two = biject(2, *what, "--out", tmp_path / "two")
    assert two.returncode == 0, two.stderr[-4000:] + two.stdout[-3000:]
    assert "VERDICT PASS" in two.stdout
    one = biject(1, *what, "--set", "train.batch_size=8", "--out", tmp_path / "one")
    assert one.returncode == 0, one.stderr[-3000:]
    name = "adapter" if method == "lora" else "model"
    close(tmp_path / "two" / name, tmp_path / "one" / name)
    lines = [line for line in two.stdout.splitlines() if line.startswith(("REFERENCE", "EVALUATION"))]
    assert len(lines) >= 2 if task == "dpo" else lines
