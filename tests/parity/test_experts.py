"""Mixtures of experts against transformers: both layouts of a file, adapters, generation, refusals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from biject import LoraConfig
from biject.errors import BijectError, ConfigError, InputError, WeightsError
from biject.families import trying
from biject.families._qwen3_moe import FAMILY
from biject.nn.grouped import joined
from biject.pretrained import load
from biject.verify.inputs import probe_cases, training_case
from parity.harness import compare_forward, compare_gradients, pair

Make = Callable[..., Path]
NAME = "qwen3_moe"


@pytest.fixture(autouse=True)
def tried() -> Iterator[None]:
    """The family is not registered: see docs/experts.md."""
    with trying(FAMILY):
        yield


def stack(folder: Path) -> Path:
    """The same checkpoint as transformers 5 writes it with `save_original_format=False`."""
    import transformers

    stacked = folder.with_name(f"{folder.name}-stacked")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(stacked, save_original_format=False)
    return stacked


@pytest.fixture
def folder(reference: Make) -> Path:
    return reference(NAME, "causal")


def test_the_hubs_layout_is_one_tensor_a_parameter(folder: Path) -> None:
    stored = load_file(folder / "model.safetensors")
    assert "model.layers.0.mlp.experts.3.gate_proj.weight" in stored
    ours = load(folder)
    assert len(list(ours.parameters())) == len(stored)
    assert ours.num_parameters() == sum(one.numel() for one in stored.values())


def test_stacked_files_come_in_and_go_out_as_they_came(folder: Path) -> None:
    stacked = stack(folder)
    stored = load_file(stacked / "model.safetensors")
    assert stored["model.layers.0.mlp.experts.gate_up_proj"].shape == (6, 48, 32)
    ours, theirs = pair(stacked)
    config = json.loads((stacked / "config.json").read_text())
    for case in probe_cases(config, max_length=64):
        assert compare_forward(ours, theirs, case) == [], case.name
    for train in (False, True):
        assert compare_gradients(ours, theirs, training_case(config, "causal"), train=train) == []
    load(stacked).save_pretrained(stacked.with_name("out"))
    for path in (stacked / "model.safetensors", stacked / "config.json"):
        again = (stacked.with_name("out") / path.name).read_bytes()
        assert hashlib.sha256(again).digest() == hashlib.sha256(path.read_bytes()).digest()


def test_both_layouts_give_the_same_bits(folder: Path) -> None:
    ids = torch.arange(3, 40).view(1, -1)
    with torch.no_grad():
        one, two = load(folder)(ids), load(stack(folder))(ids)
    assert torch.equal(one.logits, two.logits)


@pytest.mark.parametrize("masked", [False, True])
def test_router_logits_and_balance_are_hfs(folder: Path, masked: bool) -> None:
    ours, theirs = pair(folder)
    ids = torch.arange(3, 63).view(3, 20)
    mask = torch.ones_like(ids)
    mask[0, 12:] = 0
    given = {"input_ids": ids, "labels": ids, "output_router_logits": True}
    given |= {"attention_mask": mask} if masked else {}
    a, b = ours(**given), theirs(**given)
    assert torch.equal(a.loss, b.loss)
    assert torch.equal(a.aux_loss, b.aux_loss)
    assert len(a.router_logits) == len(b.router_logits) == 2
    assert all(torch.equal(x, y) for x, y in zip(a.router_logits, b.router_logits, strict=True))
    plain = ours(input_ids=ids, labels=ids, attention_mask=mask if masked else None)
    assert plain.aux_loss is None
    assert plain.router_logits is None
    assert a.loss > plain.loss


def test_packed_rows_balance_over_real_tokens_alone(folder: Path) -> None:
    """Padding is not computed, and the mean over experts is HF's to rounding."""
    ours, theirs = pair(folder, layout="packed", numerics="fast")
    ids = torch.arange(3, 183).view(3, 60)
    mask = torch.ones_like(ids)
    mask[0, 9:], mask[1, 30:] = 0, 0
    given = {"input_ids": ids, "attention_mask": mask, "output_router_logits": True}
    with torch.no_grad():
        a, b = ours(**given), theirs(**given)
    # Fewer rows in a product: the last bits are the machine's (equal on this one).
    assert a.aux_loss.item() == pytest.approx(b.aux_loss.item(), rel=1e-6)
    real = mask.bool()
    assert torch.allclose(a.logits[real], b.logits[real], rtol=0, atol=1e-5)


def test_exact_numerics_computes_all_of_hfs_rows(folder: Path) -> None:
    """An expert's rows are computed together, padding among them: only the whole grid has HF's bits."""
    ours, theirs = pair(folder, layout="packed", numerics="exact")
    ids = torch.arange(3, 183).view(3, 60)
    mask = torch.ones_like(ids)
    mask[0, 9:], mask[1, 30:] = 0, 0
    with torch.no_grad():
        a, b = ours(input_ids=ids, attention_mask=mask), theirs(input_ids=ids, attention_mask=mask)
    assert torch.equal(a.logits[mask.bool()], b.logits[mask.bool()])


def test_generates_what_hf_generates(folder: Path) -> None:
    ours, theirs = pair(folder)
    prompts = torch.tensor([[0, 0, 5, 9, 31], [7, 8, 9, 10, 11]])
    mask = (prompts != 0).long()
    settings = {"max_new_tokens": 24, "do_sample": False, "attention_mask": mask, "eos_token_id": None}
    expected = theirs.generate(prompts, **settings, pad_token_id=0)
    assert torch.equal(ours.generate(prompts, **settings), expected)


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize(
    "target",
    ["gate_proj", "down_proj", "gate_up_proj", "model.layers.1.mlp.up_proj", r".*experts.*", "all-linear"],
)
def test_adapters_beside_experts_are_refused(folder: Path, target: str, stacked: bool) -> None:
    """Those that PEFT adapts experts for; `test_adapters` has the others' bits."""
    ours = load(stack(folder) if stacked else folder)
    one = "*" in target or target == "all-linear"
    with pytest.raises(ConfigError, match=r"beside experts .* Name others: q_proj, k_proj, v_proj, o_proj\."):
        ours.add_adapter(LoraConfig(target_modules=target if one else ("q_proj", target)))


def test_adapters_beside_routers_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="neither a linear"):
        load(folder).add_adapter(LoraConfig(target_modules=("gate",)))


def test_few_bits_leave_experts_as_they_are_and_say_so(folder: Path) -> None:
    """As transformers with bitsandbytes, whose experts are no linears; `test_quantised` has the bits."""
    with pytest.warns(UserWarning, match="experts' matrices, .* are not quantised"):
        ours = load(folder, quantization="nf4")
    kept = {name for name, one in ours.named_parameters() if one.is_floating_point() and ".experts." in name}
    assert len(kept) == 2 * 6 * 3
    assert not ours.get_parameter("layers.0.attn.q_proj.weight").is_floating_point()


def test_generation_from_codes_is_refused(folder: Path) -> None:
    ours = load(folder)
    with pytest.raises(BijectError, match="experts"):
        ours.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=2, quantization="int8")


def test_router_logits_of_other_models_are_refused(reference: Make) -> None:
    ours = load(reference("qwen3", "causal"))
    with pytest.raises(InputError, match="experts"):
        ours(input_ids=torch.tensor([[5, 6]]), output_router_logits=True)


def _config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_experts": 5},
        {"num_experts_per_tok": 7},
        {"num_local_experts": 10**9},
        {"num_local_experts": 7},
        {"mlp_only_layers": [0]},
        {"mlp_only_layers": ["1"]},
        {"decoder_sparse_step": 0},
        {"moe_intermediate_size": 23},
    ],
    ids=str,
)
def test_a_config_that_the_file_contradicts(folder: Path, changes: dict[str, object]) -> None:
    _config(folder, **changes)
    with pytest.raises(BijectError):
        load(folder)


def test_the_hubs_name_for_the_number_of_experts(folder: Path) -> None:
    path = folder / "config.json"
    written = json.loads(path.read_text())
    written["num_experts"] = written.pop("num_local_experts")
    path.write_text(json.dumps(written))
    ours, theirs = pair(folder)
    ids = torch.arange(3, 40).view(1, -1)
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, theirs(ids).logits)


def test_gate_and_way_up_lie_side_by_side(folder: Path, tmp_path: Path) -> None:
    """In the mapped file and in training: their product copies neither. What is saved is what was loaded."""
    ours = load(folder)
    for training in (False, True):
        ours.train(training)
        gate, up = (ours.get_parameter(f"layers.0.mlp.experts.3.{one}_proj.weight") for one in ("gate", "up"))
        assert up.data_ptr() == gate.data_ptr() + gate.nbytes, training
        assert joined([gate, up]).data_ptr() == gate.data_ptr()
    ours.save_pretrained(tmp_path / "out")
    saved = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert saved == (folder / "model.safetensors").read_bytes()


def test_an_expert_that_is_missing_is_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    stored = load_file(path)
    del stored["model.layers.2.mlp.experts.4.up_proj.weight"]
    save_file(stored, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"experts\.4\.up_proj"):
        load(folder)
