"""`scripts/run_gpu.py`, as far as it goes without a GPU: it calls what the benchmark offers today."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from biject.bench import measure, run, sides


@pytest.fixture
def script() -> ModuleType:
    place = Path(__file__).parents[3] / "scripts" / "run_gpu.py"
    if not place.is_file():
        pytest.skip("no source tree")
    spec = importlib.util.spec_from_file_location("run_gpu", place)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_all_cells_are_of_known_models(script: ModuleType) -> None:
    for cell in script.CELLS:
        kind, shape, dtype, *lengths = cell.split()
        assert shape in (run.DECODERS if kind == "decoder" else run.ENCODERS)
        assert (dtype, len(lengths)) in {("bfloat16", kind == "encoder"), ("float32", kind == "encoder")}


def test_what_it_writes(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    monkeypatch.setitem(sides.SHAPES, "tiny-encoder", ("Bert", sizes))
    monkeypatch.setitem(sides.SHAPES, "tiny-decoder", ("GPT2", {"n_embd": 32, "n_layer": 1, "n_head": 2}))
    monkeypatch.setattr(measure, "peak", lambda *_: (1e11, "measured"))
    monkeypatch.setattr(measure, "bandwidth", lambda _: 1e10)
    cells = (
        "encoder tiny-encoder float32 snippets",
        "decoder tiny-decoder float32",
        "encoder none float32 x",
    )
    monkeypatch.setattr(script, "CELLS", cells)
    monkeypatch.setattr(script, "run_tests", lambda: {"exit": 0, "tests": {}})
    available = torch.cuda.is_available
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    started = run.Bench.__init__

    def start(self: run.Bench, plan: run.Plan) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", available)
        started(self, plan)

    monkeypatch.setattr(run.Bench, "__init__", start)
    out = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["run_gpu.py", str(out)])
    assert script.main() == 0
    found = json.loads(out.read_text())
    assert found["not_run"] == ["encoder none float32 x: KeyError: 'none'"]
    assert [cell["model"] for cell in found["cells"]] == ["tiny-encoder"] * 8 + ["tiny-decoder"] * 2
    assert found["machine"]["gemm_flops"]
