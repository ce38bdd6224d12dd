"""A `.bin` that holds its matrices transposed: the same numbers, other bits in HF's own outputs."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from biject.export import export_checkpoint
from biject.verify import verify_export
from biject.verify.reference import make_reference


def transposed(folder: Path, *, spoil: bool = False) -> Path:
    """The folder's weights as a pickle whose matrices lie column by column."""
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor.dim() == 2:
            tensors[name] = tensor.t().contiguous().t()
    if spoil:
        tensors[max(tensors)][0, 0] += 1e-6
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder


def test_it_is_compared_in_the_order_of_safetensors_and_said(tmp_path: Path) -> None:
    wide = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4}
    source = transposed(make_reference("bert", "seqcls", tmp_path / "source", overrides=wide))
    out = export_checkpoint(source, out=tmp_path / "out").folder
    report = verify_export(out, source=source, levels=["bytes", "hf-forward"])
    assert report.passed, report.lines()
    assert "lie transposed in its .bin" in "\n".join(report.lines())


def test_a_fault_in_such_a_file_is_still_found(tmp_path: Path) -> None:
    source = make_reference("bert", "seqcls", tmp_path / "source")
    out = export_checkpoint(source, out=tmp_path / "out").folder
    transposed(source, spoil=True)
    report = verify_export(out, source=source, levels=["bytes", "hf-forward"])
    assert {level.name for level in report.levels if level.status == "fail"} == {"bytes", "hf-forward"}
