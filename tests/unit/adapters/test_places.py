"""Where adapters are written: over one of their own, never over what is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from biject import LoraConfig
from biject.cli.main import main
from biject.errors import CheckpointError
from biject.merging.merge import merge
from biject.pretrained import load
from biject.verify.reference import make_reference


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A base in `original`, its adapter in `run/adapter`; `link` is the base, too."""
    torch.manual_seed(0)
    model = load(make_reference("bert", "base", tmp_path / "original"))
    model.add_adapter(LoraConfig(r=2, init_lora_weights=False))
    model.save_adapter(tmp_path / "run" / "adapter")
    (tmp_path / "link").symlink_to("original")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    return tmp_path


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("place", ["original", "link", ""])
def test_an_adapter_is_not_written_over_its_base(place: str, top: Path) -> None:
    model, before = load(top / "run" / "adapter"), everything(top)
    with pytest.raises(CheckpointError, match="must be separate"):
        model.save_adapter(top / place, force=True)
    assert everything(top) == before


def test_an_adapter_is_written_over_itself_and_beside_the_base(top: Path) -> None:
    model = load(top / "run" / "adapter")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.add_(0.1)
    ids = torch.tensor([[5, 6, 7]])
    expected = model(ids).last_hidden_state
    for place in (top / "run" / "adapter", top / "original" / "adapter"):
        model.save_adapter(place, force=True)
        assert torch.equal(load(place)(ids).last_hidden_state, expected)


@pytest.mark.parametrize("place", ["run/adapter", "run/adapter/merged", "original", "link"])
def test_a_merge_is_not_written_over_what_it_reads(place: str, top: Path, capsys) -> None:
    before = everything(top)
    with pytest.raises(CheckpointError, match="must be separate"):
        merge(top / "run" / "adapter", top / place, force=True)
    given = ["merge", "--adapter", str(top / "run" / "adapter"), "--out", str(top / place), "--force"]
    assert main(given) == 2
    assert "must be separate" in capsys.readouterr().err
    assert everything(top) == before
