"""`finetune` refuses what the contract does not allow with exit code 2, before any weight is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biject.verify.reference import make_reference


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """A tiny BERT whose weights nobody can read, not even their header."""
    folder = make_reference("bert", "base", tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"\xff" * 4096)
    return folder


def test_the_reason_comes_before_the_weights(run, spoilt, write_data, tmp_path) -> None:
    data, out = write_data(tmp_path, "seqcls"), tmp_path / "run"
    refused = run("finetune", "--model", spoilt, "--data", data, "--task", "causal", "--out", out)
    assert refused.code == 2
    assert "`task` is causal, and `bert` has no such head; it has seqcls, tokcls, qa, mlm." in refused.err
    assert "model.safetensors" not in refused.err
    allowed = run("finetune", "--model", spoilt, "--data", data, "--task", "seqcls", "--out", out)
    assert allowed.code == 2
    assert "model.safetensors" in allowed.err  # now they were looked at
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "change", "says"),
    [
        (("--set", "device=cuda:7"), {}, "`device` 'cuda' cannot be used on this machine"),
        ((), {"model_type": "t5"}, "`model_type` is 't5'"),
        (("--task", "embed"), {"model_type": "vit"}, "and `vit` reads pictures"),
        (("--task", "seqcls"), {"model_type": "gpt2", "pad_token_id": None}, "set `pad_token_id` there"),
    ],
)
def test_refusals(run, spoilt, write_data, tmp_path, flags, change, says) -> None:
    path = spoilt / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    data, given = write_data(tmp_path, "seqcls"), dict(zip(flags[::2], flags[1::2], strict=True))
    flat = [part for pair in {"--task": "tokcls", **given}.items() for part in pair]
    refused = run("finetune", "--model", spoilt, "--data", data, *flat, "--out", tmp_path / "run")
    assert refused.code == 2
    assert says in refused.err
    assert "model.safetensors" not in refused.err


def test_no_tokenizer(run, spoilt, write_data, tmp_path) -> None:
    for name in ("tokenizer.json", "vocab.txt"):
        (spoilt / name).unlink(missing_ok=True)
    data = write_data(tmp_path, "seqcls")
    refused = run("finetune", "--model", spoilt, "--data", data, "--task", "seqcls", "--out", tmp_path / "r")
    assert refused.code == 2
    assert "The checkpoint has no tokenizer" in refused.err
