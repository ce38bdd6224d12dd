"""Training takes parameters out of the mapped file, once; their identity and bits stay."""

from __future__ import annotations

from pathlib import Path

import torch

from biject.pretrained import load
from biject.verify.reference import make_reference


def test_parameters_leave_the_file_before_training(tmp_path: Path) -> None:
    model = load(make_reference("bert", "seqcls", tmp_path / "x"))
    before = {name: (parameter, parameter.data_ptr()) for name, parameter in model.named_parameters()}
    values = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    frozen = "embed.tokens.weight"
    model.get_parameter(frozen).requires_grad_(False)
    assert model.eval() is model
    assert all(parameter.data_ptr() == before[name][1] for name, parameter in model.named_parameters())
    assert model.train() is model
    assert model.training
    for name, parameter in model.named_parameters():
        assert parameter is before[name][0]
        assert torch.equal(parameter, values[name])
        assert (parameter.data_ptr() == before[name][1]) == (name == frozen)
    own = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    model.eval().train()
    assert own == {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
