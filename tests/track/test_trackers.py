"""Trackers' files, read back by their own libraries; how runs are marked; and trackers that are not there."""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from biject.errors import InputError, MissingExtraError
from biject.runs.folder import RunFolder
from biject.runs.log import tracked
from biject.track import NAMES, Tracked, make_tracker, scalars
from biject.track.registry import check_tracker
from biject.train.result import FitResult

EVENTS: list[dict[str, Any]] = [
    {"event": "start", "time": 1.0, "recipe": {"model": "m", "labels": ["a", "b"], "train": {"lr": 1e-3}}},
    *({"event": "step", "time": 2.0 + i, "step": i, "loss": 1 / i, "lr": 1e-3 / i, "grad_norm": None,
       "tokens": 100.0 * i, "items": 4.0} for i in range(1, 6)),
    {"event": "evaluation", "time": 9.0, "step": 5, "seconds": 3.0, "loss": 0.123456789, "f1": 0.75},
    {"event": "evaluation", "time": 9.0, "step": 6, "loss": float("nan"), "f1": 0.5},
    {"event": "end", "time": 10.0, "steps": 5},
]  # fmt: skip


def expected() -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for event in EVENTS:
        step, values = scalars(event) or (0, {})
        for name, value in values.items():
            found.setdefault(name, {})[step] = value
    return found


def write(name: str, folder: Path) -> None:
    tracker = make_tracker(name, folder)
    for event in EVENTS:
        tracker.on_event(event)
    tracker.close()
    assert tracker.problem is None
    assert tracker.lost == 0


def test_what_is_shown_of_an_event() -> None:
    assert scalars(EVENTS[1]) == (1, {"train/loss": 1.0, "train/lr": 1e-3, "train/tokens": 100.0})
    assert scalars(EVENTS[7]) == (6, {"eval/f1": 0.5})
    assert scalars(EVENTS[0]) is None
    assert scalars({"event": "step", "step": "1", "loss": 1.0}) is None


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write("tensorboard", tmp_path)
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    wanted = expected()
    assert set(read.Tags()["scalars"]) == set(wanted)
    for name, values in wanted.items():
        found = {event.step: event.value for event in read.Scalars(name)}
        assert found == {step: float(np.float32(value)) for step, value in values.items()}
    text = read.Tensors("recipe")[0].tensor_proto.string_val[0].decode()
    assert "train.lr = 0.001" in text


def test_tensorboard_forgets_what_a_resumed_run_does_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write("tensorboard", tmp_path)
    tracker = make_tracker("tensorboard", tmp_path)
    tracker.on_event({"event": "setup", "time": 20.0, "from_step": 3})
    tracker.on_event({"event": "step", "time": 21.0, "step": 4, "loss": 9.0})
    tracker.close()
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    found = [(event.step, event.value) for event in read.Scalars("train/loss")]
    assert [step for step, _ in found] == [1, 2, 3, 4]
    assert found[-1] == (4, 9.0)


READ_TRACKIO = """
import json, trackio
from trackio.sqlite_storage import SQLiteStorage
run = trackio.Api().runs("biject")[0]
rows = SQLiteStorage.get_logs("biject", run.name)
print("FOUND", json.dumps([run.name, run.config.get("train.lr"), rows], default=str))
"""
WRITE = """
import json, sys
from pathlib import Path
from biject.track import make_tracker
tracker = make_tracker(sys.argv[1], Path(sys.argv[2]))
for line in sys.stdin:
    tracker.on_event(json.loads(line))
tracker.close(**json.loads(sys.argv[3]))
assert tracker.problem is None, tracker.problem
"""


def in_a_process(code: str, *arguments: str, **environment: str) -> str:
    lines = "".join(json.dumps(event) + "\n" for event in EVENTS)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        input=lines, text=True, capture_output=True, timeout=120, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_trackio(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    place = {"TRACKIO_DIR": str(tmp_path / "store"), "HF_HUB_OFFLINE": "1"}
    run = tmp_path / "a run"
    run.mkdir()
    assert in_a_process(WRITE, "trackio", str(run), "{}", **place) == ""  # nothing of it on stdout
    said = in_a_process(READ_TRACKIO, **place)
    name, rate, rows = json.loads(said.rpartition("FOUND ")[2])
    assert (name, rate) == ("a run", 1e-3)
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        for key, value in row.items():
            if key in expected() and value is not None:
                found.setdefault(key, {})[row["step"]] = value
    assert found == expected()


def test_wandb_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    place = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    assert in_a_process(WRITE, "wandb", str(tmp_path), "{}", **place) == ""
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    found: dict[str, dict[int, float]] = {}
    rows, code = read_wandb(path)
    for row in rows:
        for key, value in row.items():
            if key in expected():
                found.setdefault(key, {})[row["step"]] = value
    assert (found, code) == (expected(), 0)


def test_wandb_of_a_run_that_failed(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    place = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    in_a_process(WRITE, "wandb", str(tmp_path), '{"ended": "failed"}', **place)
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert read_wandb(path)[1] == 1


def read_wandb(path: Path) -> tuple[list[dict[str, Any]], int | None]:
    """Rows of history, and the exit code, by wandb's own protocol: LevelDB's log format around records."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts, rows, code = path.read_bytes(), 7, b"", [], None
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        parts += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = Record.FromString(parts)
            parts = b""
            code = record.exit.exit_code if record.HasField("exit") else code
            if record.HasField("history"):
                rows.append(
                    {
                        item.key or "/".join(item.nested_key): json.loads(item.value_json)
                        for item in record.history.item
                    }
                )
    return rows, code


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where MLflow is installed; it is not among our own requirements."""
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'store'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    write("mlflow", tmp_path)
    check_mlflow(MlflowClient())


def check_mlflow(client: Any) -> None:
    experiment = client.get_experiment_by_name("biject")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["train.lr"] == "0.001"
    for name, values in expected().items():
        history = client.get_metric_history(run.info.run_id, name)
        assert {metric.step: metric.value for metric in history} == values


class StrictClient:
    """MLflow's client with its rule for names (mlflow/utils/validation.py), for where it is not installed."""

    made: ClassVar[list[StrictClient]] = []

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.status = "RUNNING"
        self.made.append(self)

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=name)

    def create_run(self, number: str, *, run_name: str) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id=run_name))

    def log_batch(self, run: str, *, metrics: Any = (), params: Any = ()) -> None:
        for name, *_ in (*metrics, *params):
            plain = re.fullmatch(r"[\w./ -]*", name) and posixpath.normpath(name) == name
            if not plain or name.startswith(("/", "..")):
                raise ValueError(f"Invalid value {name!r} for parameter 'metrics[0].name'")
        self.metrics |= {name: value for name, value, *_ in metrics}

    def set_terminated(self, run: str, status: str = "FINISHED") -> None:
        self.status = status


@pytest.fixture
def strict_mlflow(monkeypatch: pytest.MonkeyPatch) -> list[StrictClient]:
    entities = SimpleNamespace(Metric=lambda *row: row, Param=lambda *row: row)
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", SimpleNamespace(MlflowClient=StrictClient))
    monkeypatch.setattr("biject.track.registry.find_spec", lambda name: name)
    monkeypatch.setattr(StrictClient, "made", [])
    return StrictClient.made


def test_mlflow_gets_names_that_it_takes(strict_mlflow: list[StrictClient], tmp_path: Path) -> None:
    tracker = make_tracker("mlflow", tmp_path)
    names = ("ndcg@10", "f1 é/a", "../x", "a//b", "loss")
    tracker.on_event({"event": "evaluation", "time": 1.0, "step": 1, **dict.fromkeys(names, 0.5)})
    tracker.close()
    assert (tracker.problem, tracker.refused) == (None, 0)
    assert list(strict_mlflow[0].metrics) == [
        "eval/ndcg_at_10", "eval/f1 _/a", "eval/x", "eval/a/b", "eval/loss"
    ]  # fmt: skip


def end_of_a_run(folder: Path, event: dict[str, Any], error: BaseException | None) -> None:
    run = RunFolder(folder)
    run.folder.mkdir()
    with tracked(run, ["mlflow"]):
        run.event(event.pop("event"), **event)
        if error is not None:
            raise error


ENDS: list[tuple[dict[str, Any], BaseException | None, str]] = [
    ({"event": "end", "steps": 3}, None, "FINISHED"),
    ({"event": "interrupted", "step": 3, "reason": "Ctrl-C"}, None, "KILLED"),
    ({"event": "step", "step": 3}, KeyboardInterrupt(), "KILLED"),
    ({"event": "step", "step": 3}, InputError("A loss is NaN."), "FAILED"),
]


@pytest.mark.parametrize(("event", "error", "status"), ENDS, ids=["end", "stopped", "Ctrl-C", "error"])
def test_a_run_is_marked_as_it_ended(
    event: dict[str, Any], error: Any, status: str, strict_mlflow: list[StrictClient], tmp_path: Path
) -> None:
    with contextlib.nullcontext() if error is None else pytest.raises(type(error)):
        end_of_a_run(tmp_path / "run", dict(event), error)
    assert strict_mlflow[0].status == status


@pytest.mark.parametrize(("interrupted", "status"), [(False, "FINISHED"), (True, "KILLED")])
def test_by_the_api_as_well(
    *, interrupted: bool, status: str, strict_mlflow: list[StrictClient], tmp_path: Path
) -> None:
    Tracked("mlflow", tmp_path).on_end(FitResult(interrupted=interrupted))
    assert strict_mlflow[0].status == status


def test_names_and_packages_are_checked_before_work() -> None:
    with pytest.raises(InputError, match=r"There is no tracker 'tensorbord'; there are tensorboard, trackio"):
        check_tracker("tensorbord")
    assert NAMES == ("tensorboard", "trackio", "wandb", "mlflow")


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biject.track.registry.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="needs the package wandb: pip install wandb"):
        check_tracker("wandb")
