"""Training in a notebook: one line that is written over, and nothing left of it at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # a kernel has to start

CODE = """
import torch
from torch import nn
import biject


class Lines(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(2, 1)

    def forward(self, x, labels=None):
        import time
        time.sleep(0.02)
        from types import SimpleNamespace
        return SimpleNamespace(loss=((self.line(x)[:, 0] - labels) ** 2).mean())


rows = [{"x": torch.randn(2), "labels": torch.randn(())} for _ in range(200)]
biject.Trainer(Lines()).fit(rows, batch_size=4, epochs=1)
print("trained")
"""


def test_progress_is_one_line_that_is_written_over(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    streams: dict[str, str] = {}
    for output in notebook.cells[0].outputs:
        streams[output["name"]] = streams.get(output["name"], "") + output["text"]
    shown = streams["stderr"]
    assert streams["stdout"] == "trained\n"
    assert "\n" not in shown
    updates = [part.strip() for part in shown.split("\r") if part.strip()]
    assert len(updates) >= 3
    assert all(part.startswith("training ") and "/50 steps" in part for part in updates)
    assert "loss" in updates[-1]
    assert shown.endswith("\r")
    assert not shown.split("\r")[-2].strip()  # cleared
