"""A run's files beside a model, and files of such names that are not."""

from __future__ import annotations

from biject.checkpoint.run_files import STATE_FILES, run_files


def test_of_a_sharded_checkpoint() -> None:
    moments = {"optimizer/shard-00001.safetensors", "optimizer/model.safetensors.index.json"}
    names = {"config.json", "optimizer.pt", "2_Dense/model.safetensors", *STATE_FILES, *moments}
    assert run_files(names) == {*STATE_FILES, *moments}


def test_files_of_other_programs_stay() -> None:
    assert not run_files({"trainer_state.json", "optimizer/a.bin", "config.json"})
