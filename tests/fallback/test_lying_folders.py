"""`backend="hf"` on folders that ask for far more memory than they have bytes, or leave out what is usual."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tests.fallback.test_adapters import adapted
from tests.hostile.canaries import change

from biject.checkpoint.source import open_source
from biject.errors import ConfigError, WeightsError
from biject.fallback.classes import hf_config
from biject.fallback.identity import identify_fallback
from biject.fallback.loading import load_fallback

GPTJ = {"model_type": "gptj", "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "vocab_size": 99}


@pytest.mark.parametrize("positions", [64, 10**9])
def test_tables_beside_the_parameters_are_counted(positions: int, checkpoint: Any, tmp_path: Path) -> None:
    """GPT-J's are no parameters, and no file holds them: any number would be made."""
    folder = shutil.copytree(checkpoint("mpnet"), tmp_path / "bad")
    change(folder, "config.json", **GPTJ, max_position_embeddings=positions)
    source = open_source(folder)
    if positions == 64:
        assert identify_fallback(source, head="base").head == "base"
        return
    with pytest.raises(ConfigError, match=r"8,000,000,\d+ numbers beside its parameters"):
        identify_fallback(source, head="base")


def test_a_long_key_above_many_values_is_not_copied_for_each() -> None:
    values = {"model_type": "mpnet", "a" * 100_000: {f"b{i}": i for i in range(2_000)}}
    tracemalloc.start()
    try:
        hf_config(values, num_tensors=3, where="here")
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore::biject.errors.BijectWarning")
def test_a_rank_that_no_tensor_has(checkpoint: Any, tmp_path: Path) -> None:
    """PEFT makes the matrices before anybody compares them."""
    adapted(checkpoint("mpnet")).save_adapter(tmp_path / "a")
    for values in ({"r": 100_000}, {"rank_pattern": {"q": 100_000}}):
        folder = shutil.copytree(tmp_path / "a", tmp_path / next(iter(values)))
        change(folder, "adapter_config.json", **values)
        with pytest.raises(WeightsError, match="its rank is 100000"):
            load_fallback(folder)


def test_an_empty_list_of_classes(checkpoint: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint("mpnet"), tmp_path / "m")
    change(folder, "config.json", architectures=[])
    load_fallback(folder, head="base").save_pretrained(tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["architectures"] == ["MPNetModel"]
