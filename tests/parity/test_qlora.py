"""LoRA on quantised bases against PEFT on `transformers` with bitsandbytes, in bits: outputs and steps."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import biject
from biject.config.adapter import LoraConfig
from biject.errors import ConfigError
from biject.nn.modules import Linear
from biject.nn.quantised import FourBitLinear
from biject.pretrained import PretrainedModel, load
from biject.quantize import quantised_linears
from biject.train.trainer import Trainer
from biject.verify.hf import quiet
from biject.verify.inputs import probe_cases, training_case
from parity.harness import compare_forward, objective
from parity.quantised import METHODS, hf_quantised
from parity.test_adapters import theirs_by_name, trained
from parity.test_quantised import wide
from parity.unequal import is_packed, lengths, real_differences, texts

Reference = Callable[..., Path]
MODELS = [
    ("llama", "causal"),
    ("qwen3", "causal"),
    ("mistral", "causal"),
    ("gpt2", "causal"),
    ("llama", "seqcls"),
    ("bert", "seqcls"),
]
MODES: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": "all-linear"},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
}
STEPS = 3


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def both(
    folder: Path, tmp_path: Path, method: str, double_quant: bool | None, mode: str, **options: Any
) -> tuple[PretrainedModel, Any]:
    """Ours with a random adapter, and HF's with the same by PEFT, through our file."""
    import peft

    ours = load(folder, layout="padded", quantization=method, double_quant=double_quant, **options)
    # transformers quantises a classifier that has a bias, and PEFT then cannot train it
    left = {"llm_int8_skip_modules": ["classifier"]} if ours.config.model_type == "bert" else {}
    theirs = hf_quantised(folder, ours, method, double_quant, **left)
    torch.manual_seed(0)
    settings = LoraConfig(r=4, lora_alpha=16, lora_dropout=0.1, init_lora_weights=False, **MODES[mode])
    ours.add_adapter(settings)
    ours.save_adapter(tmp_path / "adapter")
    return ours, peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter", is_trainable=True).eval()


CELLS = [
    pytest.param(
        *model, *method, mode, marks=[] if method == ("nf4", True) or mode == "plain" else pytest.mark.slow
    )
    for model in MODELS
    for method in METHODS
    for mode in MODES
    if (method[0], mode) != ("int8", "dora")  # PEFT 0.21 loses the scales on the CPU and fails
]


@pytest.mark.parametrize(("model_type", "head", "method", "double_quant", "mode"), CELLS)
def test_equals_peft(
    model_type: str,
    head: str,
    method: str,
    double_quant: bool | None,
    mode: str,
    reference: Reference,
    tmp_path: Path,
) -> None:
    folder = reference(model_type, head, name=model_type)
    ours, theirs = both(folder, tmp_path, method, double_quant, mode)
    inner = theirs.base_model.model
    config = json.loads((folder / "config.json").read_text())
    before = {name: tensor.clone() for name, tensor in (*ours.named_parameters(), *ours.named_buffers())}
    for case in probe_cases(config, max_length=40)[:4]:
        assert compare_forward(ours, inner, case) == [], case.name
    batches = [training_case(config, head, seed=seed).inputs for seed in range(STEPS)]
    found = theirs_by_name(theirs)
    losses = [
        steps(model, parameters, batches)
        for model, parameters in (
            (ours, list(trained(ours).values())),
            (inner, [found[name] for name in trained(ours)]),
        )
    ]
    assert losses[0] == losses[1]
    wrong = [name for name, tensor in trained(ours).items() if not torch.equal(tensor, found[name])]
    assert wrong == []
    changed = {name for name, old in before.items() if not torch.equal(old, ours.state_dict().get(name, old))}
    assert changed == {name for name, parameter in ours.named_parameters() if parameter.requires_grad}
    for case in probe_cases(config, max_length=40)[:2]:
        assert compare_forward(ours, inner, case) == [], case.name


def steps(model: Any, parameters: list[Any], batches: list[Any]) -> list[float]:
    unique = list({id(p): p for p in parameters}.values())
    assert {id(p) for p in model.parameters() if p.requires_grad} == {id(p) for p in unique}
    optimizer = torch.optim.AdamW(unique, lr=1e-2)
    torch.manual_seed(3)
    model.train()
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = objective(model(**batch))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_the_packed_layout_and_checkpointed_layers(method: str, reference: Reference, tmp_path: Path) -> None:
    """Forward in the packed layout has PEFT's bits; steps with checkpointing those of steps without."""
    folder = reference("llama", "causal", overrides=wide("llama"))
    ours, theirs = both(folder, tmp_path, method, True if method == "nf4" else None, "plain")
    ours.planner.layout = "packed"
    batch = texts(ours, lengths(9, 2, 40))
    for flags in ({}, {"output_hidden_states": True}):
        assert real_differences(ours, theirs.base_model.model, batch, **flags) == []
    assert is_packed(ours, batch) == (method == "nf4")
    ours.planner.layout = "padded"
    config = json.loads((folder / "config.json").read_text())
    batches = [training_case(config, "causal", seed=seed).inputs for seed in range(STEPS)]
    again = load(folder, layout="padded", quantization=method)
    again.load_adapter(tmp_path / "adapter", trainable=True)
    again.gradient_checkpointing_enable()
    found = [steps(model, list(trained(model).values()), batches) for model in (ours, again)]
    assert found[0] == found[1]
    mine, other = trained(ours), trained(again)
    assert all(torch.equal(tensor, other[name]) for name, tensor in mine.items())


def test_a_head_that_is_trained_whole_is_held_in_full(reference: Reference, tmp_path: Path) -> None:
    folder = reference("bert", "seqcls")
    ours = load(folder, quantization="nf4")
    other = load(folder, quantization="nf4", skip_modules=["classifier"])
    assert isinstance(ours.head.out, FourBitLinear)
    for model in (ours, other):
        torch.manual_seed(0)
        model.add_adapter(LoraConfig(r=4, init_lora_weights=False))
        assert type(model.head.out) is Linear
        assert isinstance(model.layers[0].attn.q_proj, FourBitLinear)
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(ours(ids).logits, other(ids).logits)
    ours.save_adapter(tmp_path / "adapter")
    again = biject.AutoModelForSequenceClassification.from_pretrained(
        folder, adapter=tmp_path / "adapter", quantization="nf4"
    )
    assert torch.equal(again(ids).logits, ours(ids).logits)
    ours.delete_adapter("default")
    assert {name for name, p in ours.named_parameters() if not p.is_floating_point()} == {
        f"{name}.weight" for name, _ in quantised_linears(ours)
    }


def test_a_run_is_saved_and_resumed_to_the_bit(reference: Reference, tmp_path: Path) -> None:
    folder = reference("llama", "causal")
    data = [{"input_ids": ids, "labels": ids} for ids in torch.randint(5, 300, (12, 9))]

    def model() -> PretrainedModel:
        made = load(folder, quantization="nf4")
        torch.manual_seed(0)
        made.add_adapter(LoraConfig(r=4, lora_dropout=0.1))
        return made

    whole, parts, again = model(), model(), model()
    options: dict[str, Any] = {"batch_size": 4, "lr": 1e-2, "gradient_checkpointing": True}
    Trainer(whole, **options).fit(data, max_steps=6)
    Trainer(parts, checkpoint_every=3, **options).fit(data, max_steps=6, out=tmp_path / "run")
    start = tmp_path / "run" / "checkpoints" / "step-000003"
    assert not (start / "model.safetensors").exists()
    Trainer(again, **options).fit(data, max_steps=6, resume=start)
    for found in (parts, again):
        assert all(torch.equal(tensor, trained(found)[name]) for name, tensor in trained(whole).items())
    assert any(
        not torch.equal(a, b) for a, b in zip(trained(whole).values(), trained(model()).values(), strict=True)
    )


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_what_needs_numbers_is_refused(init: Any, reference: Reference) -> None:
    model = load(reference("llama", "causal"), quantization="nf4")
    with pytest.raises(ConfigError, match="a base that is not quantised"):
        model.add_adapter(LoraConfig(r=4, init_lora_weights=init))


def test_merging_is_refused(reference: Reference) -> None:
    model = load(reference("llama", "causal"), quantization="nf4")
    model.add_adapter(LoraConfig(r=4))
    with pytest.raises(ConfigError, match="cannot hold a merged adapter"):
        model.merge_adapter()
    assert model.active_adapters == ("default",)
