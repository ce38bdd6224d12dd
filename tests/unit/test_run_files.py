"""A run's files beside a model, and files of such names that are not."""

from __future__ import annotations

from pathlib import Path

from biject.checkpoint.hub_upload import publishable
from biject.checkpoint.run_files import STATE_FILES, run_files


def test_of_a_sharded_checkpoint() -> None:
    moments = {"optimizer/shard-00001.safetensors", "optimizer/model.safetensors.index.json"}
    names = {"config.json", "optimizer.pt", "2_Dense/model.safetensors", *STATE_FILES, *moments}
    assert run_files(names) == {*STATE_FILES, *moments}


def test_files_of_other_programs_stay() -> None:
    assert not run_files({"trainer_state.json", "optimizer/a.bin", "config.json"})


def test_a_push_leaves_out_what_a_trainer_goes_on_from(tmp_path: Path) -> None:
    kept = {"model.safetensors", "2_Dense/model.safetensors", "checkpoint-best/notes.txt"}
    state = {"optimizer.pt", "rng_state_1.pth", "checkpoint-500/model.safetensors", "checkpoint-500/x/y.bin"}
    for name in kept | state:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert set(publishable(tmp_path)) == kept
