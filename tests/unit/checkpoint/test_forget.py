"""A tensor whose memory was given back is read from the file again; what was written beside it stays."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from biject.checkpoint.forget import forget_unwritten
from biject.checkpoint.reader import Reader
from biject.checkpoint.source import open_source


def resident() -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssFile"))
    return int(line.split()[1]) * 1024


def test_it_comes_again(tmp_path: Path) -> None:
    big, small = torch.randn(4_000_000), torch.randn(10)
    save_file({"big": big, "small": small}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text("{}")
    reader = Reader(open_source(tmp_path))
    found, other = reader.tensor("big"), reader.tensor("small")
    other.zero_()  # private pages, which are not given back
    assert torch.equal(found, big)
    before = resident()
    reader.forget("big")
    assert resident() < before - 15_000_000
    assert torch.equal(found, big)
    assert torch.equal(reader.tensor("big"), big)
    assert torch.equal(other, torch.zeros(10))


def test_a_pickle_is_left_alone(tmp_path: Path) -> None:
    torch.save({"big": torch.ones(100_000)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    reader = Reader(open_source(tmp_path))
    found = reader.tensor("big")
    reader.forget("big")
    assert torch.equal(found, torch.ones(100_000))


def test_what_was_written_to_is_kept(tmp_path: Path) -> None:
    """One changed number of a mapped tensor, or memory that is no file's, and nothing is given back."""
    big = torch.randn(4_000_000)
    save_file({"big": big}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text("{}")
    found = Reader(open_source(tmp_path)).tensor("big")
    assert torch.equal(found, big)
    found[3_000_000] = 7.0
    before = resident()
    forget_unwritten(found.data_ptr(), found.nbytes)
    assert resident() == before
    assert found[3_000_000] == 7.0
    own = big.clone()
    forget_unwritten(own.data_ptr(), own.nbytes)
    assert torch.equal(own, big)
    again = Reader(open_source(tmp_path)).tensor("big")
    assert torch.equal(again, big)
    before = resident()
    forget_unwritten(again.data_ptr(), again.nbytes)
    assert resident() < before - 15_000_000
    assert torch.equal(again, big)
