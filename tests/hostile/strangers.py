"""Checkpoints of a family that nobody knows, for drafts of family files: configs and names of tensors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from biject.checkpoint.source import Source, open_source

CONFIG: Mapping[str, Any] = {
    "model_type": "stranger",
    "architectures": ["StrangerForCausalLM"],
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "hidden_act": "gelu",
    "rope_theta": 1000.0,
}
LAYER: Mapping[str, tuple[int, ...]] = {
    "attn.wq": (8, 8),
    "attn.wk": (4, 8),
    "attn.wv": (4, 8),
    "attn.wo": (8, 8),
    "mlp.up": (12, 8),
    "mlp.down": (8, 12),
    "attn_norm": (8,),
    "mlp_norm": (8,),
}


def shapes(**others: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes by name: two layers, the table before them, and tensors of one's own."""
    layers = {f"net.blocks.{i}.{name}.weight": shape for i in range(2) for name, shape in LAYER.items()}
    return {"net.table.weight": (20, 8), **layers, **others}


def stranger(
    folder: Path,
    config: Mapping[str, Any] | None = None,
    tensors: Mapping[str, tuple[int, ...]] | None = None,
) -> Source:
    """A folder with keys of one's own in its config, and these tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    held = {name: np.zeros(shape, np.float32) for name, shape in (tensors or shapes()).items()}
    (folder / "model.safetensors").write_bytes(save(held, metadata={"format": "pt"}))
    return open_source(folder)


_CHILD = (
    "import sys, json\nfrom biject.cli.main import main\n"
    "for command in json.loads(sys.argv[1]):\n    print('rc', main(command))\n"
)


def exit_codes(given: list[list[str]], *, cwd: Path) -> list[int]:
    """Of some commands in one process, none of which shows a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, json.dumps(given)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        cwd=cwd,
        check=False,
    )
    codes = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("rc ")]
    assert len(codes) == len(given), done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    return codes
