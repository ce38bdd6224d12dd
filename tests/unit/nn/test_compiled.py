"""`torch.compile(layer)`: no graph break, few compilations over all kinds of batches, the eager results."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from biject.nn.batch import Batch, HeadRequest
from biject.nn.kernels import Numerics
from biject.nn.layout import Packed
from biject.pretrained import PretrainedModel, load
from biject.train.trainer import Trainer
from biject.verify.reference import make_reference

SIZES = {"hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128}
FAMILIES = {
    "bert": SIZES,
    "deberta-v2": SIZES,
    "modernbert": SIZES,
    "llama": {**SIZES, "num_key_value_heads": 2},
    "qwen3": {**SIZES, "num_key_value_heads": 2},
    "mistral": {**SIZES, "sliding_window": 9},
    "gemma2": {**SIZES, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 9},
    "olmo2": {**SIZES, "num_key_value_heads": 2},
    "gpt2": {"n_embd": 64, "n_positions": 128},
}
BATCHES = 50
BOUND = 1e-5
"""Of outputs near 1 in float32: a compiler fuses operations, which rounds elsewhere."""


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def make(family: str, folder: Path) -> PretrainedModel:
    return load(make_reference(family, "base", folder, overrides=FAMILIES[family]), numerics="fast")


def batches(count: int) -> Iterator[Batch]:
    """Texts of mixed lengths; every seventh batch has one length beside the longest text's."""
    rng = torch.Generator().manual_seed(0)
    for index in range(count):
        size, length = (
            int(torch.randint(low, high, (), generator=rng)) for low, high in ((2, 10), (20, 100))
        )
        counts = torch.randint(1, length + 1, (size,), generator=rng)
        counts = torch.full_like(counts, 3) if index % 7 == 0 else counts
        counts[0] = length
        ids = torch.randint(5, 90, (size, length), generator=rng)
        yield Batch(input_ids=ids, attention_mask=(torch.arange(length) < counts[:, None]).long())


@pytest.mark.parametrize("family", FAMILIES)
def test_few_compilations_over_packed_batches(family: str, tmp_path: Path) -> None:
    model, packed = make(family, tmp_path / "model"), 0
    for layer in model.layers:
        compiled = torch.compile(layer, fullgraph=True, backend="eager")
        counters.clear()
        torch._dynamo.reset()
        for batch in batches(BATCHES):
            with torch.no_grad():
                plan = model.planner(model, batch, HeadRequest())
                if not isinstance(plan.layout, Packed):
                    continue
                packed += 1
                x_TD = model.embed_rows(plan)
                assert torch.equal(compiled(x_TD, plan), layer(x_TD, plan))
        assert not counters["graph_break"]
        assert counters["stats"]["unique_graphs"] <= 3
    assert packed > BATCHES * len(model.layers) * 0.9


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_compiled_layers(family: str, tmp_path: Path) -> None:
    """By torch's own tracer of backward passes."""
    model = make(family, tmp_path / "model")
    layer = model.layers[-1]
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for batch in batches(3):
        found = []
        for run in (layer, compiled):
            plan = model.planner(model, batch, HeadRequest())
            assert isinstance(plan.layout, Packed)
            x_TD = model.embed_rows(plan).detach().requires_grad_()
            out: Tensor = run(x_TD, plan)
            layer.zero_grad()
            (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
            found.append([x_TD.grad, *(parameter.grad for parameter in layer.parameters())])
        for eager, other in zip(*found, strict=True):
            assert eager is not None
            assert other is not None
            assert (eager - other).abs().max() <= BOUND * max(1.0, float(eager.abs().max()))


def test_dropout_is_drawn_again_in_the_backward_pass(tmp_path: Path) -> None:
    """With the same random numbers: the gradient is that of the output that was given."""
    overrides = {**SIZES, "attention_probs_dropout_prob": 0.5, "hidden_dropout_prob": 0.0}
    model = load(make_reference("bert", "base", tmp_path / "model", overrides=overrides), numerics="fast")
    attention = model.layers[0].attn.train()
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    plan = model.planner(model, next(batches(1)), HeadRequest())
    x_TD = model.embed_rows(plan).detach().double()
    attention.double()
    x_TD.requires_grad_()
    step = 1e-6 * torch.randn(x_TD.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    outputs = []
    for rows in (x_TD, x_TD.detach() + step):
        torch.manual_seed(7)
        outputs.append(compiled(rows, plan).sum())
    outputs[0].backward()
    assert x_TD.grad is not None
    expected, found = float(outputs[1] - outputs[0]), float((x_TD.grad * step).sum())
    assert found == pytest.approx(expected, rel=1e-4)
    torch.manual_seed(8)
    assert float(compiled(x_TD, plan).sum()) != float(outputs[0])


@pytest.mark.parametrize("numerics", ["exact", "fast"])
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_whole_model(family: str, numerics: Numerics, tmp_path: Path) -> None:
    """What users write: the plan is made outside of the compiled code, which follows it for every batch."""
    model = make(family, tmp_path / "model")
    model.planner.numerics = numerics
    compiled = torch.compile(model, backend="eager")
    for batch in batches(8):
        with torch.no_grad():
            given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
            assert torch.equal(compiled(**given)[0], model(**given)[0])
    assert counters["stats"]["unique_graphs"] <= 16
    assert not counters["recompile_limit"]


def test_the_trainer_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed batches of several lengths, with the losses of a run that is not compiled."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    folder = make_reference("bert", "mlm", tmp_path / "model", overrides={**SIZES, **off})
    given = [
        {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.input_ids}
        for batch in batches(4)
    ]
    found = []
    for wanted in (False, True):
        trainer = Trainer(load(folder), lr=1e-3, compile=wanted, progress=False)
        found.append(trainer.fit(iter(given), max_steps=4).losses)
    assert len(found[0]) == 4
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_nobody_who_does_not_compile_loads_a_compiler(tmp_path: Path) -> None:
    folder = make_reference("bert", "base", tmp_path / "model")
    code = (
        "import sys, torch, biject\n"
        f"biject.AutoModel.from_pretrained({str(folder)!r})(torch.tensor([[5, 6]]))\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "deberta-v2", "modernbert", "llama"])
def test_with_the_default_compiler(family: str, tmp_path: Path) -> None:
    """Outputs within the bound, by torch's inductor."""
    model = make(family, tmp_path / "model")
    compiled = torch.compile(model.layers[1], fullgraph=True)
    for batch in batches(6):
        with torch.no_grad():
            plan = model.planner(model, batch, HeadRequest())
            x_TD = model.embed_rows(plan)
            assert (compiled(x_TD, plan) - model.layers[1](x_TD, plan)).abs().max() <= BOUND
    assert counters["stats"]["unique_graphs"] <= 3
