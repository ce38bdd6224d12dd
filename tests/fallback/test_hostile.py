"""With `backend="hf"` nothing that a folder brings is run: each way in has a canary that must not appear."""

from __future__ import annotations

import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.fallback.test_runs import run
from tests.hostile.canaries import Pickled, change, code

import biject
from biject.errors import BijectError, CheckpointError, ConfigError
from biject.fallback.loading import load_fallback
from biject.fallback.tokenizer import load_fallback_tokenizer

pytestmark = pytest.mark.attack("code in a folder of backend hf")


def auto_map(folder: Path, canary: Path) -> None:
    names = ("AutoConfig", "AutoModel", "AutoModelForMaskedLM", "AutoModelForSequenceClassification")
    change(folder, "config.json", auto_map=dict.fromkeys(names, "own.Own") | {"AutoConfig": "own.OwnConfig"})


def own_architecture(folder: Path, canary: Path) -> None:
    change(folder, "config.json", architectures=["Own"], auto_map={"AutoModel": "own.Own"})


def unknown_type(folder: Path, canary: Path) -> None:
    change(folder, "config.json", model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})


def tokenizer_class(folder: Path, canary: Path) -> None:
    own = {"AutoTokenizer": ["own.OwnTokenizer", "own.OwnTokenizer"]}
    change(folder, "tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=own)


def old_auto_map(folder: Path, canary: Path) -> None:
    change(
        folder, "tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=["own.OwnTokenizer", None]
    )


def kernels(folder: Path, canary: Path) -> None:
    change(folder, "config.json", attn_implementation="nobody/own", _attn_implementation="nobody/own")


def own_generate(folder: Path, canary: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(code(canary, "MPNet", "MPNetForMaskedLM"))
    change(folder, "generation_config.json", custom_generate=".", trust_remote_code=True)


def pickled_weights(folder: Path, canary: Path) -> None:
    state = dict(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    torch.save({**state, "extra": Pickled(canary)}, folder / "pytorch_model.bin")


def pickle_beside(folder: Path, canary: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "vocab.pkl", "scheduler.pt"):
        (folder / name).write_bytes(pickle.dumps(Pickled(canary)))


def adapter_beside(folder: Path, canary: Path) -> None:
    change(folder, "adapter_config.json", peft_type="LORA", base_model_name_or_path=str(folder), r=1)
    torch.save({"a": Pickled(canary)}, folder / "adapter_model.bin")


WAYS: tuple[Callable[[Path, Path], None], ...] = (
    auto_map, own_architecture, unknown_type, tokenizer_class, old_auto_map, kernels, own_generate,
    pickled_weights, pickle_beside, adapter_beside,
)  # fmt: skip
REFUSED = {
    unknown_type: "none of transformers .*own. Code that the folder brings .* is never run",
    pickled_weights: "contains more than tensors",
}
"""What is no model without the code; the others are used as if the code were not there."""


@pytest.fixture
def planted(checkpoint: Any, tmp_path: Path) -> Callable[[Callable[[Path, Path], None]], tuple[Path, Path]]:
    """`planted(way)`: a folder with code in it, and the canary that the code writes."""

    def plant(way: Callable[[Path, Path], None]) -> tuple[Path, Path]:
        folder, canary = tmp_path / "bad", tmp_path / "canary"
        shutil.copytree(checkpoint("mpnet"), folder)
        for name in ("own.py", "modeling_own.py", "__init__.py"):
            (folder / name).write_text(code(canary, "MPNet", "MPNetForMaskedLM"))
        way(folder, canary)
        return folder, canary

    return plant


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_nothing_of_a_folder_runs(
    way: Callable[[Path, Path], None], planted: Any, write_data: Any, tmp_path: Path
) -> None:
    folder, canary = planted(way)
    data = write_data(tmp_path / "data", "seqcls")
    if way in REFUSED:
        with pytest.raises(BijectError, match=REFUSED[way]):
            biject.AutoModel.from_pretrained(folder, backend="hf")
    try:
        done, _ = run(tmp_path, folder, data, "seqcls")
    except BijectError:
        assert way in REFUSED
    else:
        assert done.passed
        assert way not in REFUSED
    assert not canary.exists()
    assert "own" not in sys.modules


def test_the_canary_sings_when_the_code_is_run(planted: Any) -> None:
    folder, canary = planted(auto_map)
    exec(compile((folder / "own.py").read_text(), "own", "exec"), {})
    assert canary.exists()


def test_a_pickle_of_tensors_alone_is_read(checkpoint: Any, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(checkpoint("mpnet"), folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(dict(state), folder / "pytorch_model.bin")
    model = load_fallback(folder)
    again = load_fallback(checkpoint("mpnet"))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers. is 1000000000"),
        ({"vocab_size": 10**12}, "by config.json the model has|cannot build"),
        ({"hidden_size": -4}, "transformers cannot (use|build)"),
        ({"hidden_size": "x"}, "transformers cannot (use|build)"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "is quantised"),
        ({"fusion_config": {"x": True}}, "`fusion_config` changes what transformers runs"),
        ({"transformers_weights": "../../other.safetensors"}, "so that transformers reads that file"),
        ({"model_type": None}, "`model_type` is None"),
        ({"model_type": ["mpnet"]}, "none of transformers"),
        ({"model_type": "../mpnet"}, "none of transformers"),
        ({"intermediate_size": 12}, "another shape|cannot load"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_configs_that_lie_are_one_error(
    values: dict[str, Any], match: str, checkpoint: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(checkpoint("mpnet"), folder)
    change(folder, "config.json", **values)
    with pytest.raises((ConfigError, CheckpointError, biject.WeightsError), match=match):
        load_fallback(folder)


MANY = 10**9
DEEP: list[tuple[dict[str, Any], str]] = [
    (
        {"model_type": "clip", "vision_config": {"num_hidden_layers": MANY}},
        r"`vision_config\.num_hidden_layers` is",
    ),
    ({"model_type": "swin", "depths": [1, MANY]}, "`depths` is"),
    ({"model_type": "upernet", "backbone_config": {"model_type": "swin", "depths": [MANY]}}, r"\.depths` is"),
    ({"model_type": "funnel", "block_repeats": [1, MANY]}, "`block_repeats` is"),
    ({"num_labels": MANY}, "`num_labels` is"),
    ({"model_type": "albert", "inner_group_num": 10**6}, "more than 10,.* modules and parameters, the file"),
]


@pytest.mark.parametrize(("values", "match"), DEEP, ids=[next(reversed(values)) for values, _ in DEEP])
def test_layers_are_counted_wherever_the_config_has_them(
    values: dict[str, Any], match: str, checkpoint: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(checkpoint("mpnet"), folder)
    change(folder, "config.json", **values)
    with pytest.raises(ConfigError, match=match):
        load_fallback(folder, head="base")


def test_indices_of_layers_and_sizes_are_no_counts(checkpoint: Any, tmp_path: Path) -> None:
    folder = tmp_path / "good"
    shutil.copytree(checkpoint("mpnet"), folder)
    change(
        folder,
        "config.json",
        vocab_size_per_layer_input=262144,
        out_layers=[3] * 999,
        block_size=1024,
        embed_dim_per_stage=[96, 768, 9999],
    )
    assert load_fallback(folder).num_parameters() == load_fallback(checkpoint("mpnet")).num_parameters()


def test_a_tokenizer_without_files_is_one_error(checkpoint: Any, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(checkpoint("mpnet"), folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(CheckpointError, match=r"MPNetTokenizer is built from vocab\.txt or tokenizer\.json"):
        load_fallback_tokenizer(folder, {"model_type": "mpnet"})
