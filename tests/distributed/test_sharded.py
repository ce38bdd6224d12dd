"""FSDP2: every layer, the embeddings and the head sharded over two Gloo processes, against one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from biject.pretrained import load
from biject.verify.reference import make_reference
from distributed.sharded_worker import run

OFF = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "deberta-v2": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "llama": {"attention_dropout": 0.0},
    "modernbert": dict.fromkeys(
        ("attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"), 0.0
    ),
}
CELLS = {
    "bert-seqcls": ("bert", "seqcls", {"classifier_dropout": 0.0}),
    "bert-mlm-tied": ("bert", "mlm", {}),
    "bert-mlm-own": ("bert", "mlm", {"tie_word_embeddings": False}),
    "deberta-mlm": ("deberta-v2", "mlm", {}),
    "modernbert-mlm": ("modernbert", "mlm", {}),
    "llama-causal": ("llama", "causal", {"tie_word_embeddings": False}),
    "llama-causal-tied": ("llama", "causal", {"tie_word_embeddings": True}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`one` and `two`: what one process and what two made of each source."""
    root = tmp_path_factory.mktemp("sharded")
    for name, (family, head, overrides) in CELLS.items():
        make_reference(family, head, root / "source" / name, overrides={**OFF[family], **overrides})
    worker = Path(__file__).with_name("sharded_worker.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(worker), str(root / "source"), str(root / "two")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in CELLS:
        found = run(load(root / "source" / name), root / "one" / name)
        (root / "one" / name / "rank-0.json").write_text(json.dumps(found))
    torch.set_num_threads(before)
    return {"one": root / "one", "two": root / "two", "source": root / "source"}


@pytest.mark.parametrize("name", CELLS)
def test_the_export_of_a_sharded_model_has_the_same_bytes(name: str, folders: dict[str, Path]) -> None:
    for file in ("model.safetensors", "config.json"):
        expected = (folders["one"] / name / "before" / file).read_bytes()
        assert (folders["two"] / name / "before" / file).read_bytes() == expected
        assert (folders["source"] / name / file).read_bytes() == expected


@pytest.mark.parametrize("name", CELLS)
def test_forward_is_one_process_s(name: str, folders: dict[str, Path]) -> None:
    """To the bit: each rank computes with the whole of a gathered layer."""
    one = json.loads((folders["one"] / name / "rank-0.json").read_text())
    for rank in range(2):
        two = json.loads((folders["two"] / name / f"rank-{rank}.json").read_text())
        assert {key: two[key] for key in one} == one


@pytest.mark.parametrize("name", CELLS)
def test_one_step_is_one_process_s(name: str, folders: dict[str, Path]) -> None:
    """Both ranks have the same batch, so that the mean of two equal gradients is theirs, to the bit:
    (g + g) / 2 is exact in binary floating point.
    """
    one, two = (load_file(folders[key] / name / "after" / "model.safetensors") for key in ("one", "two"))
    before = load_file(folders["source"] / name / "model.safetensors")
    assert one.keys() == two.keys()
    for tensor in one:
        assert torch.equal(one[tensor], two[tensor]), tensor
    assert any(not torch.equal(one[tensor], before[tensor]) for tensor in one)


def test_rows_of_a_grid_are_no_view_that_fsdp2_warns_of(folders: dict[str, Path]) -> None:
    """Batches without padding come out of the embeddings as a view of their grid; one rank shows it."""
    script = (
        "import sys, warnings, torch, torch.distributed as dist\n"
        "from biject.distributed.sharding import shard\n"
        "from biject.pretrained import load\n"
        "dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)\n"
        "warnings.filterwarnings('error', message='FSDP2-wrapped')\n"
        "whole, parts = load(sys.argv[1]), load(sys.argv[1])\n"
        "shard(parts)\n"
        "ids = torch.arange(5, 45).view(2, 20)\n"
        "losses = [model.train()(input_ids=ids, labels=ids).loss for model in (whole, parts)]\n"
        "[loss.backward() for loss in losses]\n"
        "assert torch.equal(*losses)\n"
        "ours, theirs = (model.embed.tokens.weight.grad for model in (parts, whole))\n"
        "assert torch.equal(ours.full_tensor(), theirs)\n"
    )
    command = [sys.executable, "-c", script, str(folders["source"] / "llama-causal")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
