"""Adapters on the Hub, and adapters of bases on the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import biject
from biject.config.adapter import LoraConfig
from biject.errors import CheckpointError
from biject.pretrained import load
from biject.verify.reference import make_reference

from .server import HubServer, folder_files


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    top = tmp_path_factory.mktemp("adapters")
    base = make_reference("bert", "seqcls", top / "base")
    model = load(base)
    model.add_adapter(LoraConfig(r=4, init_lora_weights=False))
    model.adapters.adapters["default"].base = "org/base"
    model.save_adapter(top / "adapter")
    return base, top / "adapter"


def test_an_adapter_brings_its_base_and_nothing_else(
    hub: HubServer, client: Path, places: tuple[Path, Path]
) -> None:
    base, adapter = places
    hub.add("org/base", base)
    extra = {
        "optimizer.pt": b"state" * 100,
        "training_args.bin": b"pickle" * 100,
        "checkpoint-5/adapter_model.safetensors": b"older" * 100,
        "adapter_model.bin": b"pickle" * 100,
    }
    hub.add("org/adapter", {**folder_files(adapter), **extra})
    model = biject.AutoModelForSequenceClassification.from_pretrained("org/adapter")
    here = load(base, adapter=adapter)
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(model(ids).logits, here(ids).logits)
    bodies = hub.bodies()
    assert "adapter_model.safetensors" in bodies
    assert bodies.count("adapter_model.safetensors") == 1
    assert not {"optimizer.pt", "training_args.bin", "adapter_model.bin"} & set(bodies)
    tokenizer = biject.AutoTokenizer.from_pretrained("org/adapter")
    assert tokenizer("fox").input_ids == biject.AutoTokenizer.from_pretrained(base)("fox").input_ids
    other = load(base, adapter="org/adapter")
    assert torch.equal(other(ids).logits, here(ids).logits)


def test_a_base_that_the_hub_does_not_have(hub: HubServer, client: Path, places: tuple[Path, Path]) -> None:
    base, adapter = places
    with pytest.raises(CheckpointError, match=r"'org/base', which cannot be read.*with adapter="):
        load(adapter)
    assert load(base, adapter=adapter).head_name == "seqcls"


def test_the_revision_of_the_base_is_the_recorded_one(
    hub: HubServer, client: Path, places: tuple[Path, Path], tmp_path: Path
) -> None:
    import json
    import shutil

    base, adapter = places
    repo = hub.add("org/base", base)
    first = repo.refs["main"]
    repo.commit({"config.json": b"{}", "model.safetensors": b"broken"})
    folder = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "revision": first}))
    assert load(folder).source.folder.name == first
