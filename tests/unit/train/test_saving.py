"""Checkpoints that a thread writes while training goes on: the same bytes; what goes wrong does no harm."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn

from biject.checkpoint import writer
from biject.checkpoint.content import Packed
from biject.checkpoint.run_files import JSON_FILE, MANIFEST, TENSOR_FILE
from biject.errors import CheckpointError
from biject.pretrained import load
from biject.train import checkpoints, depends
from biject.train.trainer import Trainer

Make = Callable[[], nn.Module]
LIMIT = 60.0


def folders(out: Path) -> list[int]:
    return [step for step, _ in checkpoints.existing(out / "checkpoints")]


def state_of(folder: Path) -> dict[str, Any]:
    """A checkpoint's state, without the setting that makes the difference."""
    found: dict[str, Any] = json.loads((folder / JSON_FILE).read_text())
    del found["config"]["checkpoint_async"]
    return found


def settings(step: Any, **more: Any) -> dict[str, Any]:
    return {"step": step, "lr": 1e-2, "batch_size": 8, "checkpoint_every": 4, "keep": 9, **more}


class Held:
    """Writing of weights that waits until it may, or fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, fail_at: int = 0) -> None:
        self.may, self.began, self.calls = threading.Event(), threading.Event(), 0
        self.running = self.most = 0
        plain = writer._write_weights

        def write(*given: Any) -> None:
            self.calls += 1
            self.running += 1
            self.most = max(self.most, self.running)
            self.began.set()
            try:
                assert self.may.wait(LIMIT)
                if self.calls == fail_at:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                plain(*given)
            finally:
                self.running -= 1

        monkeypatch.setattr(writer, "_write_weights", write)


def test_tensors_are_packed_to_the_bytes_of_safetensors() -> None:
    given = {
        "z": torch.arange(6.0).reshape(2, 3).t(),
        "a": torch.tensor(7.0),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "none": torch.zeros(0, 4),
        "double": torch.ones(1, dtype=torch.float64),
    }
    expected = save({name: tensor.contiguous() for name, tensor in given.items()}, metadata={"format": "pt"})
    assert b"".join(Packed(given).chunks()) == expected


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_the_bytes_are_those_of_a_run_that_waits(
    kind: str, make: Make, data: Any, step: Any, tmp_path: Path
) -> None:
    whole, beside, again = make(), make(), make()
    options = settings(step, optimizer=kind)
    losses = Trainer(whole, **options).fit(data, max_steps=12, out=tmp_path / "wait").losses
    later = settings(step, optimizer=kind, checkpoint_async=True)
    assert Trainer(beside, **later).fit(data, max_steps=12, out=tmp_path / "later").losses == losses
    assert folders(tmp_path / "later") == folders(tmp_path / "wait") == [4, 8, 12]
    for number in (4, 8, 12):
        one, other = (tmp_path / k / "checkpoints" / f"step-{number:06d}" for k in ("wait", "later"))
        for name in ("model.safetensors", TENSOR_FILE):
            assert (one / name).read_bytes() == (other / name).read_bytes(), (number, name)
        assert state_of(one) == state_of(other)
        depends.check_files(other, expected=True)
    start = tmp_path / "later" / "checkpoints" / "step-000004"  # one that waits may go on with it
    found = Trainer(again, **options).fit(data, max_steps=12, out=tmp_path / "again", resume=start).losses
    assert found == losses[4:]


def test_our_models_and_adapters_too(bert: Path, texts: Any, tmp_path: Path) -> None:
    from biject.config.adapter import LoraConfig

    def run(out: Path, *, later: bool, adapter: bool) -> Path:
        torch.manual_seed(0)
        model = load(bert)
        if adapter:
            model.add_adapter(LoraConfig(r=2, target_modules="all-linear"))
        trainer = Trainer(model, lr=1e-3, checkpoint_every=2, checkpoint_async=later)
        trainer.fit(texts, batch_size=8, max_steps=4, out=out)
        return out / "checkpoints" / "step-000002"

    for adapter in (False, True):
        one, other = (
            run(tmp_path / f"{adapter}-{later}", later=later, adapter=adapter) for later in (False, True)
        )
        names = sorted(path.name for path in one.iterdir())
        assert names == sorted(path.name for path in other.iterdir())
        for name in set(names) - {JSON_FILE, MANIFEST}:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
        assert state_of(one) == state_of(other)


def test_training_goes_on_meanwhile_and_the_next_save_waits(
    make: Make, data: Any, step: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, seen, told = Held(monkeypatch), list[tuple[int, list[int]]](), list[int]()

    class Watch:
        def on_checkpoint(self, number: int, path: Path) -> None:
            assert (path / JSON_FILE).is_file()
            told.append(number)

    def look(number: int, _: Any) -> None:
        seen.append((number, folders(tmp_path)))
        if number == 7:  # three steps after the copy was made
            assert held.began.wait(LIMIT)
            held.may.set()

    model = make()
    options = settings(step, schedule="constant", checkpoint_async=True, on_step=look, callbacks=[Watch()])
    Trainer(model, **options).fit(data, max_steps=12, out=tmp_path)
    assert [found for number, found in seen if number <= 7] == [[]] * 7
    assert folders(tmp_path) == [4, 8, 12]
    assert told == [4, 8, 12]
    assert held.most == 1  # never two at once
    plain = Trainer(make(), **settings(step, schedule="constant")).fit(
        data, max_steps=4, out=tmp_path / "plain"
    )
    assert plain.steps == 4
    name = "checkpoints/step-000004/model.safetensors"
    assert (tmp_path / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_a_full_disk_ends_the_run_with_its_message(
    make: Make, data: Any, step: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, steps = Held(monkeypatch, fail_at=2), list[int]()
    held.may.set()

    def look(number: int, _: Any) -> None:
        steps.append(number)
        if number == 9:  # the thread that writes step 8 has to have failed by the end of this step
            for thread in threading.enumerate():
                if thread.name == "biject-checkpoint":
                    thread.join(LIMIT)

    trainer = Trainer(make(), **settings(step, checkpoint_async=True, on_step=look))
    with pytest.raises(CheckpointError, match=r"step-000008 could not be written: No space left.*Free some"):
        trainer.fit(data, max_steps=100, out=tmp_path)
    assert steps[-1] == 9  # the next step's end
    assert folders(tmp_path) == [4]
    depends.check_files(tmp_path / "checkpoints" / "step-000004", expected=True)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000004"]


def test_a_full_disk_at_the_end_is_no_success(
    make: Make, data: Any, step: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch, fail_at=2)
    held.may.set()
    with pytest.raises(CheckpointError, match="No space left"):
        Trainer(make(), **settings(step, checkpoint_async=True)).fit(data, max_steps=8, out=tmp_path)
    assert folders(tmp_path) == [4]


def test_another_error_waits_for_what_is_written(
    make: Make, data: Any, step: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    def fail(number: int, _: Any) -> None:
        if number == 6:
            threading.Timer(0.2, held.may.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(make(), **settings(step, checkpoint_async=True, on_step=fail)).fit(
            data, max_steps=12, out=tmp_path
        )
    assert folders(tmp_path) == [4]


KILLED = """
import os, signal, sys, torch
sys.path.insert(0, {tests!r})
from biject.checkpoint import writer
from unit.train.test_saving import killed
killed(sys.argv[1])
"""


def killed(out: str) -> None:
    """A run that is killed while its second checkpoint's file is half written."""
    calls, plain = list[int](), writer._write_weights

    def write(path: Path, *given: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            path.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        plain(path, *given)

    writer._write_weights = write
    _small_run(out, later=True)


def _small_run(out: str | Path, *, later: bool, resume: bool = False) -> list[float]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Linear(6, 3)
    draw = torch.Generator().manual_seed(2)
    data = [(torch.randn(6, generator=draw), index % 3) for index in range(50)]
    trainer = Trainer(
        model, step=lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]), batch_size=8,
        checkpoint_every=4, checkpoint_async=later, progress=False,
    )  # fmt: skip
    return trainer.fit(data, max_steps=12, out=out, resume=resume).losses


def test_killed_while_it_writes_goes_on_from_the_last_whole_one(tmp_path: Path) -> None:
    code = KILLED.format(tests=str(Path(__file__).parents[2]))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        capture_output=True, text=True, timeout=LIMIT * 2,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert folders(tmp_path / "run") == [4]
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 2  # and what the killed one left
    later = _small_run(tmp_path / "run", later=True, resume=True)
    assert later == _small_run(tmp_path / "whole", later=False)[4:]
    for number in (8, 12):
        one, other = (tmp_path / k / "checkpoints" / f"step-{number:06d}" for k in ("run", "whole"))
        assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
        assert (one / TENSOR_FILE).read_bytes() == (other / TENSOR_FILE).read_bytes()
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "step-000008", "step-000012",
    ]  # fmt: skip


def test_a_run_that_is_stopped_waits_for_its_checkpoint(
    make: Make, data: Any, step: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    def look(number: int, _: Any) -> None:
        if number == 6:
            threading.Timer(0.2, held.may.set).start()
            trainer.stop("SIGTERM")

    trainer = Trainer(make(), **settings(step, checkpoint_async=True, on_step=look))
    result = trainer.fit(data, max_steps=12, out=tmp_path)
    assert result.interrupted
    assert folders(tmp_path) == [4, 6]
    whole = Trainer(make(), **settings(step)).fit(data, max_steps=12, out=tmp_path / "whole").losses
    later = Trainer(make(), **settings(step)).fit(data, max_steps=12, out=tmp_path, resume=True).losses
    assert later == whole[6:]
