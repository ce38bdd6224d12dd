"""`verify-matrix --weights hub`: real names, a server of our own, and a lock file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biject.cli.main import main
from biject.errors import BijectWarning, CheckpointError
from biject.families import HEADS
from biject.verify import verify_matrix
from biject.verify.hub_lock import LOCK_SETTING, lock_path, pinned_folder, read_lock
from biject.verify.hub_models import HUB_MODELS
from biject.verify.reference import make_reference

from .conftest import WANTED, model_files
from .server import HubServer, folder_files

NAME = HUB_MODELS["bert", "mlm"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", "mlm", tmp_path_factory.mktemp("matrix") / "source")


def test_the_table_names_repositories() -> None:
    assert all(head in HEADS and name.count("/") == 1 for (_, head), name in HUB_MODELS.items())
    assert len(set(HUB_MODELS.values())) == len(HUB_MODELS)


def test_one_cell_and_its_lock(hub: HubServer, client: Path, source: Path, tmp_path: Path, capsys) -> None:
    repo = hub.add(NAME, source)
    lock = tmp_path / "locks" / "hub.lock"
    arguments = ["verify-matrix", "--weights", "hub", "--families", "bert", "--heads", "mlm", "--json"]
    assert main([*arguments, "--lock", str(lock)]) == 0
    assert json.loads(capsys.readouterr().out)["weights"] == "hub"
    recorded = read_lock(lock)[NAME]
    assert recorded.revision == repo.refs["main"]
    assert set(recorded.files) == set(folder_files(source))
    assert [path.name for path in lock.parent.iterdir()] == ["hub.lock"]


def test_cells_without_a_repository_or_with_another_head(hub, client, source, tmp_path) -> None:
    hub.add(HUB_MODELS["bert", "qa"], source)
    result = verify_matrix(families=["bert", "deberta-v2"], heads=["qa"], weights="hub", lock=tmp_path / "l")
    assert [(cell.family, cell.passed) for cell in result.cells] == [("bert", False), ("deberta-v2", False)]
    assert "should be `bert` with head `qa`, but is `bert` with head `mlm`" in str(result.cells[0].error)
    assert "no such repository" in str(result.cells[1].error)
    assert not verify_matrix(families=["deberta-v2"], heads=["tokcls"], weights="hub").cells


def test_a_later_run_takes_what_is_recorded(hub, client, tmp_path) -> None:
    repo, lock = hub.add("org/model", model_files()), tmp_path / "hub.lock"
    first = pinned_folder("org/model", lock)
    text = lock.read_text()
    assert pinned_folder("org/model", lock) == first
    repo.commit(model_files(b"\2"))
    with pytest.warns(BijectWarning, match="has moved on"):
        assert pinned_folder("org/model", lock) == first
    assert lock.read_text() == text
    hub.add("org/other", model_files(b"\3"))
    pinned_folder("org/other", lock)
    assert set(read_lock(lock)) == {"org/model", "org/other"}


def test_content_that_differs_is_reported(hub, client, tmp_path) -> None:
    hub.add("org/model", model_files())
    lock = tmp_path / "hub.lock"
    folder = pinned_folder("org/model", lock)
    weights = (folder / "model.safetensors").resolve()
    weights.write_bytes(b"x" + weights.read_bytes()[1:])
    with pytest.raises(CheckpointError, match=r"not what .*hub\.lock records: 'model\.safetensors' differs"):
        pinned_folder("org/model", lock)


def test_a_recorded_revision_that_is_gone(hub, client, tmp_path) -> None:
    repo, lock = hub.add("org/model", model_files()), tmp_path / "hub.lock"
    pinned_folder("org/model", lock)
    value = json.loads(lock.read_text())
    value["repositories"]["org/model"]["revision"] = "a" * 40
    lock.write_text(json.dumps(value))
    with pytest.raises(CheckpointError, match="no revision 'aaaa"):
        pinned_folder("org/model", lock)
    assert set(read_lock(lock)["org/model"].files) == WANTED
    assert repo.refs["main"] != "a" * 40


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "repositories": {}}',
        '{"version": 1, "repositories": []}',
        '{"version": 1, "repositories": {"a/b": 3}}',
        '{"version": 1, "repositories": {"a/b": {"revision": "../..", "files": {}}}}',
        '{"version": 1, "repositories": {"a/b": {"revision": "' + "a" * 40 + '", "files": {"x": 1}}}}',
    ],
)
def test_damaged_locks(text: str, tmp_path: Path, capsys) -> None:
    lock = tmp_path / "hub.lock"
    lock.write_text(text)
    assert main(["verify-matrix", "--weights", "hub", "--lock", str(lock)]) == 2
    assert capsys.readouterr().err.startswith("biject: error: ")


def test_where_the_lock_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hub, client) -> None:
    monkeypatch.delenv(LOCK_SETTING, raising=False)
    assert lock_path() == Path("biject-hub.lock")
    monkeypatch.setenv(LOCK_SETTING, "other.lock")
    assert lock_path() == Path("other.lock")
    assert lock_path("asked.lock") == Path("asked.lock")
    (tmp_path / "file").write_text("")
    hub.add("org/model", model_files())
    with pytest.raises(CheckpointError, match="cannot be written"):
        pinned_folder("org/model", tmp_path / "file" / "hub.lock")
