"""`Trainer` with models that are spread over ranks: one process's losses, weights and checkpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from biject.verify.reference import make_reference
from distributed.sharded_trainer import train
from distributed.test_sharded import CELLS, OFF

WORKER = Path(__file__).with_name("sharded_trainer.py")
QUICK = ("bert-seqcls", "llama-causal-tied", "llama-causal-lora", "bert-seqcls-lora")
MORE = (
    "bert-mlm-tied", "deberta-mlm", "modernbert-mlm", "llama-causal",
    "bert-seqcls-lora", "deberta-mlm-lora", "modernbert-mlm-lora", "llama-causal-lora",
)  # fmt: skip
"""Of `-lora` an adapter of rank 4 on every linear is trained."""


def sharded(count: int, *what: Any) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [str(part) for part in (*command, WORKER, *what)],
        env=environment, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def alone(source: Path, out: Path, steps: int, start: Path | None = None) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for one in sorted(source.iterdir()):
        found = train(one, out / one.name, steps, None if start is None else start / one.name)
        (out / one.name / "rank-0.json").write_text(json.dumps(found))
    torch.set_num_threads(before)


def make(root: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        family, head, overrides = CELLS[name.removesuffix("-lora")]
        make_reference(family, head, root / "source" / name, overrides={**OFF[family], **overrides})
    alone(root / "source", root / "one", 20)
    sharded(2, root / "source", root / "two", 20)
    return root


def check(root: Path, name: str, ours: str) -> None:
    """Losses within 2e-6 (ModernBERT's differ by 1e-6, the others' by 2e-7), weights within 1e-4 by norm."""
    found, expected = (json.loads((root / key / name / "rank-0.json").read_text()) for key in (ours, "one"))
    steps = len(found["losses"])
    assert found["losses"] == pytest.approx(expected["losses"][-steps:], rel=2e-6)
    assert found["evaluation"][-1] == pytest.approx(expected["evaluation"][-1], rel=2e-6)
    file = "adapter_model.safetensors" if name.endswith("-lora") else "model.safetensors"
    own, theirs = (load_file(root / key / name / "model" / file) for key in (ours, "one"))
    if name.endswith("-lora"):  # the export before a step, of the same weights
        before = [(root / key / name / "before" / file).read_bytes() for key in (ours, "one")]
        assert before[0] == before[1]
    assert own.keys() == theirs.keys()
    apart = sum(float((own[key] - theirs[key]).double().square().sum()) for key in own)
    whole = sum(float(value.double().square().sum()) for value in theirs.values())
    assert (apart / whole) ** 0.5 <= 1e-4  # Adam divides by small second moments


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("quick"), QUICK)


@pytest.mark.parametrize("name", QUICK)
def test_twenty_steps_of_two(name: str, quick: Path) -> None:
    check(quick, name, "two")


@pytest.mark.parametrize("name", QUICK)
def test_one_process_goes_on_with_what_two_wrote(name: str, quick: Path) -> None:
    if not (quick / "later").exists():
        alone(quick / "source", quick / "later", 20, quick / "two")
    check(quick, name, "later")
    found = json.loads((quick / "later" / name / "rank-0.json").read_text())
    assert len(found["losses"]) == 10


def test_checkpoints_written_meanwhile_are_the_same(quick: Path) -> None:
    sharded(2, quick / "source", quick / "meanwhile", 20, "later")
    for name in QUICK:
        one, other = (quick / key / name for key in ("two", "meanwhile"))
        losses = [json.loads((place / "rank-0.json").read_text())["losses"] for place in (one, other)]
        assert losses[0] == losses[1]
        for step in ("step-000010", "step-000020"):
            places = [place / "checkpoints" / step for place in (one, other)]
            names = [sorted(str(path.relative_to(at)) for path in at.rglob("*")) for at in places]
            assert names[0] == names[1]
            own = [file for file in names[0] if file.startswith("optimizer/")]
            assert own
            for file in own:  # DCP's header lists them in any order
                held = [load_file(at / file) for at in places]
                assert held[0].keys() == held[1].keys()
                assert all(torch.equal(held[0][key], held[1][key]) for key in held[0])
            for file in {file for file in names[0] if (places[0] / file).is_file()} - {
                *own, "trainer_state.json", "checkpoint.json",  # say how it was written, and its digest
            }:  # fmt: skip
                assert (places[0] / file).read_bytes() == (places[1] / file).read_bytes(), file


def test_checkpoints_have_no_pickle(quick: Path) -> None:
    folder = quick / "two" / "bert-seqcls" / "checkpoints" / "step-000010"
    parts = sorted(path.name for path in (folder / "optimizer").iterdir())
    assert len(parts) == 2
    assert all(name.endswith(".safetensors") for name in parts)
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]
    manifest = json.loads((folder / "checkpoint.json").read_text())
    assert {f"optimizer/{name}" for name in parts} <= manifest["files"].keys()


@pytest.mark.slow
def test_every_family_two_and_four_and_back_to_two(tmp_path: Path) -> None:
    """Two for ten steps, then four; and two that go on with one process's checkpoint."""
    root = make(tmp_path, MORE)
    sharded(4, root / "source", root / "four", 20, root / "two")
    sharded(2, root / "source", root / "again", 20, root / "one")
    for name in MORE:
        for ours in ("two", "four", "again"):
            check(root, name, ours)
