"""Hold the formula of `biject plan` against the peaks of real runs: `python scripts/check_memory.py`.

Each run is `biject finetune` in a process of its own, on models with random weights made on the spot;
its peak is what the system reports of the process when it ends (Linux).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from biject.verify.reference import make_reference

Case = tuple[str, str, dict[str, Any], tuple[str, ...]]
SMALL = {"num_hidden_layers": 4, "vocab_size": 8000}
WORDS = {"vocab_size": 8000, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
CASES: tuple[Case, ...] = (
    ("bert", "seqcls", SMALL, ("--no-verify",)),
    ("bert", "seqcls", SMALL, ()),
    ("bert", "seqcls", SMALL, ("--no-verify", "--set", "validation=0")),
    ("bert", "seqcls", SMALL, ("--no-verify", "--set", "train.precision=bf16")),
    ("bert", "seqcls", SMALL, ("--no-verify", "--set", "train.gradient_checkpointing=true")),
    ("bert", "seqcls", SMALL, ("--no-verify", "--set", "train.optimizer=sgd")),
    ("bert", "seqcls", SMALL, ("--no-verify", "--method", "lora")),
    ("bert", "seqcls", SMALL, ("--no-verify", "--method", "qlora")),
    ("bert", "mlm", SMALL, ("--no-verify",)),
    (
        "gpt2",
        "causal",
        {"n_layer": 4, **WORDS},
        ("--no-verify", "--set", "validation=0"),
    ),
    ("qwen3", "causal", {**SMALL, **WORDS}, ("--no-verify", "--set", "validation=0")),
)
"""Family, task, sizes other than the published base's, further flags of both commands."""
COMMON = ("--set", "train.batch_size=16", "--set", "train.max_steps=6")


def rows(folder: Path, task: str) -> Path:
    """Texts of 20 to 116 words."""
    path = folder / f"{task}.jsonl"
    lines = [
        {"text": "the model is good " * (5 + i * 7 % 25), "label": ("no", "yes")[i % 2]} for i in range(240)
    ]
    if task != "seqcls":
        lines = [{"text": line["text"]} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def peak_of(arguments: list[str]) -> int:
    """The peak of a command's resident memory, in bytes."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise SystemExit(errors.decode(errors="replace"))
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def check(case: Case, folder: Path) -> tuple[float, float]:
    """Planned and measured peak, in MB."""
    family, task, sizes, flags = case
    model = folder / f"{family}-{task}"
    if not model.exists():
        make_reference(family, "base" if task == "seqcls" else task, model, size="base", overrides=sizes)
    given = ["--model", str(model), "--data", str(rows(folder, task)), "--task", task, *COMMON, *flags]
    biject = [sys.executable, "-m", "biject"]
    done = subprocess.run([*biject, "plan", *given, "--json"], stdout=subprocess.PIPE, check=False)
    plan = json.loads(done.stdout)
    with tempfile.TemporaryDirectory() as out:
        return plan["peak_bytes"] / 1e6, peak_of([*biject, "finetune", *given, "--out", f"{out}/run"]) / 1e6


def main() -> int:
    """Print a line a case; fail where one is more than a fifth off."""
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            planned, measured = check(case, Path(folder))
            worst = max(worst, abs(planned / measured - 1))
            words = " ".join(word for word in case[3] if word not in ("--set", "--method"))
            print(f"{case[0]} {case[1]} {words}: planned {planned:.0f} MB, measured {measured:.0f} MB, "
                  f"{100 * (planned / measured - 1):+.1f} %", flush=True)  # fmt: skip
    print(f"largest error {100 * worst:.1f} %")
    return 0 if worst <= 0.2 else 1


if __name__ == "__main__":
    sys.exit(main())
