"""`inspect` refuses what loading refuses: every tensor with another shape or kind, before torch is there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from biject.errors import WeightsError
from biject.inspection import inspect_folder
from biject.pretrained import load
from biject.verify.reference import make_reference

CELLS = [
    ("bert", "seqcls"),
    ("gpt2", "causal"),
    ("modernbert", "mlm"),
    ("deberta-v2", "tokcls"),
    ("qwen3", "qa"),
]


def longer(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat((tensor, tensor[:1]))


def integers(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.int32)


@pytest.mark.attack("folders that do not load elsewhere (linter)")
@pytest.mark.parametrize("change", [longer, integers])
@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_every_tensor(cell, change, tmp_path: Path) -> None:
    folder = make_reference(*cell, tmp_path / "made")
    assert inspect_folder(folder).problems == ()
    file = folder / "model.safetensors"
    held = load_file(file)
    used = {name for binding in load(folder).provenance.plan.bindings for name in binding.disk}
    for name in sorted(used):
        save_file({**held, name: change(held[name])}, file, metadata={"format": "pt"})
        problems = inspect_folder(folder).problems
        assert any(f"`{name}`" in problem for problem in problems), name
        with pytest.raises(WeightsError, match="by config"):
            load(folder)
