"""Parameters that somebody added: refused by name until they are declared, then saved and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from biject.config.recipe import TrainConfig
from biject.errors import WeightsError
from biject.model import Model
from biject.nn.modules import Linear
from biject.parameters import read_adapters
from biject.pretrained import load
from biject.train import checkpoints
from biject.train.trainer import Trainer
from biject.verify.reference import make_reference


class ScaledLinear(Linear):
    """A linear with a learned scale for each output and a low-rank part: parameters that no file has."""

    def __init__(self, old: Linear) -> None:
        super().__init__(old.in_features, old.out_features)
        self.weight, self.bias = old.weight, old.bias
        draw = torch.Generator().manual_seed(3)
        self.scale = nn.Parameter(1 + 0.1 * torch.randn(old.out_features, generator=draw))
        self.down = nn.Parameter(0.1 * torch.randn(4, old.in_features, generator=draw))

    def forward(self, x_TD: Tensor) -> Tensor:
        return super().forward(x_TD) * self.scale + (x_TD @ self.down.t()).sum(-1, keepdim=True)


ADDED = ["layers.0.mlp.up_proj.scale", "layers.0.mlp.up_proj.down"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_reference("bert", "seqcls", tmp_path / "source")


def swapped(folder: Path, *, declared: bool) -> Model:
    model = load(folder)
    model.layers[0].mlp.up_proj = ScaledLinear(model.layers[0].mlp.up_proj)
    if declared:
        model.declare_adapter("scaled", ADDED)
    return model


def batch() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 90, (4, 20), generator=draw)
    mask = (torch.arange(20) < torch.tensor([20, 4, 9, 13])[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 1, 0, 1])}


def test_saving_refuses_and_names_it(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"`layers.0.mlp.up_proj.scale`, `layers.0.mlp.up_proj.down`.*declare"
    ):
        swapped(folder, declared=False).save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_checkpoints_refuse_it_too(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"up_proj.scale"):
        checkpoints.write(swapped(folder, declared=False), tmp_path / "step-000001", {})
    assert not (tmp_path / "step-000001").exists()


def test_a_wrapped_module_is_named(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    model.layers[1].attn.q_proj = nn.Sequential(model.layers[1].attn.q_proj)
    with pytest.raises(WeightsError, match=r"`layers.1.attn.q_proj.bias`.*replaced or wrapped"):
        model.save_pretrained(tmp_path / "out")


def test_persistent_buffers_are_not_lost_either(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    model.layers[0].register_buffer("seen", torch.zeros(3))
    with pytest.raises(WeightsError, match=r"`layers.0.seen`"):
        model.save_pretrained(tmp_path / "out")
    model.layers[0].register_buffer("seen", torch.zeros(3), persistent=False)
    model.save_pretrained(tmp_path / "out")


def test_compiled_layers_are_saved_under_their_own_names(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    model.layers[0] = torch.compile(model.layers[0], backend="eager")
    model.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    "names, said",
    [(["layers.0.nothing"], "no parameter is called"), (["embed.tokens.weight"], "written elsewhere")],
)
def test_declarations_are_checked(names: list[str], said: str, folder: Path) -> None:
    with pytest.raises(WeightsError, match=said):
        load(folder).declare_adapter("wrong", names)


def test_declared_ones_are_saved_and_restored_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    model = swapped(folder, declared=True)
    expected = model(**batch()).logits
    assert not torch.equal(expected, load(folder)(**batch()).logits)
    model.save_pretrained(tmp_path / "out")
    again = swapped(tmp_path / "out", declared=True)
    with torch.no_grad():
        for name in ADDED:
            again.get_parameter(name).zero_()
    read_adapters(again, tmp_path / "out")
    assert torch.equal(again(**batch()).logits, expected)


def train(model: Model, out: Path, *, resume: bool | Path = False) -> list[Tensor]:
    config = TrainConfig(batch_size=2, epochs=2, lr=1e-3, checkpoint_every=2, keep=5, seed=5)
    rows = [{name: value[i] for name, value in batch().items()} for i in range(4)]
    Trainer(model, config=config).fit(rows, out=out, resume=resume)
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_a_resumed_run_has_the_bits_of_one_that_was_not_stopped(folder: Path, tmp_path: Path) -> None:
    before = [parameter.detach().clone() for parameter in swapped(folder, declared=True).parameters()]
    whole = train(swapped(folder, declared=True), tmp_path / "whole")
    assert not any(map(torch.equal, before, whole))
    middle = tmp_path / "whole" / "checkpoints" / "step-000002"
    assert (middle / "adapters" / "scaled" / "adapter_model.safetensors").is_file()
    resumed = train(swapped(folder, declared=True), tmp_path / "again", resume=middle)
    assert all(map(torch.equal, whole, resumed))
