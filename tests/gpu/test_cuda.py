"""What needs a CUDA device: the math path, the fast path's bounds, autocast, LoRA, NCCL of one rank.

`make gpu` runs these on a machine that has one; elsewhere they are collected and skipped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.families import families
from biject.pretrained import load
from biject.verify.hf import quiet
from biject.verify.reference import make_reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CELLS = [(name, head) for name, known in families().items() for head in known.heads]
DECODERS = [name for name, known in families().items() if "causal" in known.heads]
ENCODERS = [name for name in families() if name not in DECODERS]
LENGTHS = (23, 9, 17, 4)
OUTPUTS = ("logits", "last_hidden_state", "start_logits")


def batch(high: int = 90) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    mask = (torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(10, high, mask.shape, generator=draw) * mask
    return {"input_ids": ids.cuda(), "attention_mask": mask.cuda()}


def output(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The first output of the head, in float32; zeros where padding is."""
    with torch.no_grad():
        found = model(**inputs)
    value = next(getattr(found, name) for name in OUTPUTS if getattr(found, name, None) is not None).float()
    by_token = value.shape[:2] == inputs["attention_mask"].shape
    mask = inputs["attention_mask"]
    return value * mask.view(*mask.shape, *(1,) * (value.dim() - 2)) if by_token else value


def folder_of(tmp_path: Path, model_type: str, head: str, **overrides: Any) -> Path:
    return make_reference(model_type, head, tmp_path / model_type, overrides=overrides)


def relative(mine: torch.Tensor, other: torch.Tensor) -> float:
    return ((mine - other).norm() / other.norm()).item()


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("model_type, head", CELLS)
def test_every_cell_is_near_the_cpu(model_type: str, head: str, layout: Any, tmp_path: Path) -> None:
    """The CPU's exact run is HF's; the device's math path is within float32's rounding of it."""
    torch.backends.cuda.matmul.allow_tf32 = False
    folder = folder_of(tmp_path, model_type, head)
    inputs = batch()
    there = load(folder, head=head, device="cuda", layout=layout, numerics="exact")
    here = load(folder, head=head, layout="padded")
    expected = output(here, {name: x.cpu() for name, x in inputs.items()})
    assert relative(output(there, inputs).cpu(), expected) < 1e-4


@pytest.mark.parametrize("dtype, bound", [(torch.bfloat16, 3e-2), (torch.float16, 5e-3)])
@pytest.mark.parametrize("model_type", [*ENCODERS, *DECODERS])
def test_the_fast_path_has_its_bound(
    model_type: str, dtype: torch.dtype, bound: float, tmp_path: Path
) -> None:
    """FlashAttention over packed rows (causal, windows, grouped heads) against float32, the same weights."""
    folder = folder_of(tmp_path, model_type, "base")
    fast = load(folder, head="base", device="cuda", dtype=dtype, numerics="fast")
    exact = load(folder, head="base", device="cuda", dtype=dtype, numerics="exact", layout="padded").float()
    inputs = batch()
    assert relative(output(fast, inputs), output(exact, inputs)) < bound


def test_a_window_that_is_left_out_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: the fast path's rows see everything before them."""
    from biject.nn import kernels

    folder = folder_of(tmp_path, "mistral", "base", sliding_window=3)
    inputs = batch()
    exact = load(folder, head="base", device="cuda", dtype=torch.bfloat16, layout="padded").float()
    monkeypatch.setattr(kernels, "window_size", lambda spec: (-1, 0))
    wrong = load(folder, head="base", device="cuda", dtype=torch.bfloat16, numerics="fast")
    assert relative(output(wrong, inputs), output(exact, inputs)) > 5e-2


@pytest.mark.parametrize("model_type", ["bert", "llama", "modernbert"])
def test_a_training_step_under_autocast(model_type: str, tmp_path: Path) -> None:
    """Gradients stay float32 and near those of float32 itself; dropout off."""
    folder = folder_of(tmp_path, model_type, "seqcls", pad_token_id=0)
    inputs = {**batch(), "labels": torch.tensor([0, 1, 1, 0], device="cuda")}
    gradients = []
    for enabled in (True, False):
        model = load(folder, head="seqcls", device="cuda").eval()
        with torch.autocast("cuda", torch.bfloat16, enabled=enabled):
            model(**inputs).loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert gradients[0].dtype is torch.float32
    assert relative(*gradients) < 0.1


def test_dropout_draws_on_the_device(tmp_path: Path) -> None:
    model = load(folder_of(tmp_path, "bert", "base"), head="base", device="cuda").train()
    inputs = batch()
    torch.manual_seed(1)
    first = output(model, inputs)
    assert not torch.equal(first, output(model, inputs))
    torch.manual_seed(1)
    assert torch.equal(first, output(model, inputs))


def test_greedy_tokens_are_huggingface_s(tmp_path: Path) -> None:
    import transformers

    folder = folder_of(tmp_path, "llama", "causal", vocab_size=1000)
    ours = load(folder, head="causal", device="cuda", dtype=torch.float32)
    with quiet():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).cuda().eval()
        ids = batch()["input_ids"][:1]
        expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20)
    assert ours.generate(ids, torch.ones_like(ids), max_new_tokens=20).tolist() == expected.tolist()


def test_lora_trains_and_merges(tmp_path: Path) -> None:
    import biject

    model = load(folder_of(tmp_path, "llama", "causal"), head="causal", device="cuda")
    model.add_adapter(biject.LoraConfig(r=4, target_modules="all-linear"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, fused=True)
    inputs = batch()
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    losses = []
    for _ in range(8):
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_nccl_of_one_rank(tmp_path: Path) -> None:
    """One all-reduce, and a sharded forward pass, in a process group of the device."""
    from biject.distributed.sharding import shard

    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29517")
    torch.distributed.init_process_group("nccl", rank=0, world_size=1)
    try:
        numbers = torch.ones(4, device="cuda")
        torch.distributed.all_reduce(numbers)
        assert numbers.tolist() == [1.0] * 4
        folder, inputs = folder_of(tmp_path, "bert", "seqcls"), batch()
        plain = output(load(folder, head="seqcls", device="cuda"), inputs)
        sharded = load(folder, head="seqcls", device="cuda")
        shard(sharded)
        assert relative(output(sharded, inputs), plain) < 1e-5
    finally:
        torch.distributed.destroy_process_group()
