"""Downloads, the cache, and what goes wrong on the way, against a server that answers as the Hub."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants

from biject.checkpoint.hub import resolve_folder
from biject.checkpoint.hub_download import commit_of, fetch
from biject.errors import BijectWarning, CheckpointError
from biject.events import Notice, Progress, listening

from .conftest import WANTED, model_files
from .server import Fault, HubServer, folder_files


@pytest.fixture
def repo(hub: HubServer, client: Path):
    return hub.add("org/model", model_files())


def test_progress_is_an_event_and_nothing_is_drawn(hub, repo, capfd) -> None:
    class Listener:
        def __init__(self) -> None:
            self.progressed: list[Progress] = []

        def notice(self, event: Notice) -> None: ...

        def progress(self, event: Progress) -> None:
            self.progressed.append(event)

    listener = Listener()
    with listening(listener):
        resolve_folder("org/model")
    last = max(listener.progressed, key=lambda event: event.done)
    assert last.label == "download org/model"
    assert last.done == last.total == sum(len(model_files()[name]) for name in WANTED)
    assert capfd.readouterr().err == ""


def names(hub: HubServer) -> set[str]:
    return set(hub.bodies())


def test_one_format_and_the_assets_are_downloaded(hub, repo) -> None:
    folder = resolve_folder("org/model")
    assert folder_files(folder) == {name: model_files()[name] for name in WANTED}
    assert names(hub) == {name.rsplit("/", 1)[-1] for name in WANTED}
    assert folder.name == repo.refs["main"]


def test_nothing_is_downloaded_twice(hub, repo) -> None:
    folder = resolve_folder("org/model")
    hub.requests.clear()
    assert resolve_folder("org/model") == folder
    assert hub.bodies() == []
    assert len(hub.requests) == 1  # which commit is `main` now?
    hub.requests.clear()
    assert resolve_folder("org/model", revision=repo.refs["main"]) == folder
    assert hub.requests == []


def test_a_new_commit_costs_only_what_changed(hub, repo) -> None:
    before = resolve_folder("org/model")
    hub.requests.clear()
    repo.commit({**model_files(), "README.md": b"# Changed\n"})
    after = resolve_folder("org/model")
    assert after != before
    assert hub.bodies() == ["README.md"]
    assert (before / "README.md").read_bytes() == b"# A model\n"


def test_revisions(hub, repo) -> None:
    first = repo.refs["main"]
    repo.commit(model_files(b"\2"), ref="v2")
    repo.commit(model_files(b"\3"), ref="refs/pr/1")
    for revision, fill in (("v2", 2), ("refs/pr/1", 3), (first, 1), ("main", 1)):
        folder = resolve_folder("org/model", revision=revision)
        assert (folder / "model.safetensors").read_bytes()[-1] == fill
    assert commit_of("org/model", revision="v2") == repo.refs["v2"]


def test_a_long_list_has_pages(hub, client) -> None:
    hub.page_size = 3
    hub.add("org/model", model_files())
    assert set(fetch("org/model").files) == WANTED


def test_names_without_organisation(hub, client) -> None:
    hub.add("gpt2", model_files())
    assert (resolve_folder("gpt2") / "config.json").is_file()


def test_only_a_pickle(hub, client) -> None:
    files = {name: data for name, data in model_files().items() if name != "model.safetensors"}
    hub.add("org/model", files)
    assert "pytorch_model.bin" in fetch("org/model").files


@pytest.mark.parametrize("how", ["setting", "down", "gone"])
@pytest.mark.parametrize("revision", [None, "v2"])
def test_without_a_network_the_cache_is_used_and_said_so(hub, repo, monkeypatch, how, revision) -> None:
    repo.commit(model_files(b"\2"), ref="v2")
    folder = resolve_folder("org/model", revision=revision)
    _lose(hub, monkeypatch, how)
    with pytest.warns(BijectWarning, match="cached commit"):
        assert resolve_folder("org/model", revision=revision) == folder
    assert resolve_folder("org/model", revision=folder.name) == folder


def _lose(hub: HubServer, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "setting":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif how == "down":
        hub.down = True
    else:
        hub.stop()
        close_session()  # connections that are open are still served


@pytest.mark.parametrize("how", ["setting", "down", "gone"])
def test_without_network_and_cache(hub, repo, monkeypatch, how) -> None:
    _lose(hub, monkeypatch, how)
    for revision in (None, "a" * 40):
        with pytest.raises(CheckpointError, match=r"(cannot be reached|status 503|failed)"):
            resolve_folder("org/model", revision=revision)


def test_a_cache_of_another_program(hub, repo, monkeypatch) -> None:
    """transformers fetches file by file and leaves no list of the repository."""
    from huggingface_hub import hf_hub_download

    for file in ("config.json", "model.safetensors"):
        hf_hub_download("org/model", file)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.warns(BijectWarning):
        folder = resolve_folder("org/model")
    assert set(folder_files(folder)) == {"config.json", "model.safetensors"}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.requests.clear()
    assert set(folder_files(resolve_folder("org/model"))) == WANTED
    assert "model.safetensors" not in hub.bodies()


def test_missing_repository_and_revision(hub, repo) -> None:
    for name in ("org/nothing", "nothing"):
        with pytest.raises(CheckpointError, match=r"no such repository.*HF_TOKEN"):
            resolve_folder(name)
    with pytest.raises(CheckpointError, match="no revision 'v9'"):
        resolve_folder("org/model", revision="v9")
    with pytest.raises(CheckpointError, match=r"org/model"):
        resolve_folder("org/model", revision="b" * 40)


def test_gated_and_private(hub, client, monkeypatch) -> None:
    hub.tokens |= {"hf_other"}
    hub.add("org/gated", model_files(), gated=True, allowed=("hf_good",))
    hub.add("org/private", model_files(), private=True, allowed=("hf_good",))
    for token in (None, "hf_other"):
        with pytest.raises(CheckpointError, match="gated repository: accept its terms"):
            resolve_folder("org/gated", token=token)
        with pytest.raises(CheckpointError, match=r"no such repository.*private"):
            resolve_folder("org/private", token=token)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert (resolve_folder("org/gated") / "model.safetensors").is_file()
    monkeypatch.delenv("HF_TOKEN")
    assert (resolve_folder("org/private", token="hf_good") / "model.safetensors").is_file()


def test_tokens_reach_the_hub_and_nobody_else(hub, client, monkeypatch) -> None:
    hub.add("org/private", model_files(), private=True, allowed=("hf_good",))
    resolve_folder("org/private", token="hf_good")
    for request in hub.requests:
        assert request.token == (None if request.path.startswith("/cdn/") else "hf_good")
    with pytest.raises(CheckpointError, match="does not accept your token") as caught:
        resolve_folder("org/private", token="hf_wrong_secret")
    assert "hf_wrong_secret" not in str(caught.value)


@pytest.mark.parametrize("file", ["model.safetensors", "vocab.txt"])
def test_an_interrupted_file_is_resumed(hub, repo, monkeypatch, file) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2)  # else 10 MB
    repo.faults[file] = Fault("cut", times=2, after=4)
    folder = resolve_folder("org/model")
    assert (folder / file).read_bytes() == model_files()[file]
    ranges = [r.range for r in hub.requests if r.path.endswith(file) and r.method == "GET" and r.range]
    assert ranges == ["bytes=4-", "bytes=8-"]


def test_a_download_that_never_ends_well_is_an_error_and_can_be_taken_up(hub, repo) -> None:
    repo.faults["model.safetensors"] = Fault("cut", times=99, after=0)
    with pytest.raises(CheckpointError, match=r"download of org/model failed.*try again"):
        resolve_folder("org/model")
    repo.faults.clear()
    hub.requests.clear()
    assert set(folder_files(resolve_folder("org/model"))) == WANTED
    assert "config.json" not in hub.bodies()  # what was complete stayed


@pytest.mark.parametrize("kind", ["short", "long"])
@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_wrong_length(hub, repo, kind, file) -> None:
    repo.faults[file] = Fault(kind, times=99)
    with pytest.raises(CheckpointError, match="file should be of size"):
        resolve_folder("org/model")
    repo.faults.clear()
    assert (resolve_folder("org/model") / file).read_bytes() == model_files()[file]


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_right_length_but_wrong_content(hub, repo, file) -> None:
    repo.faults[file] = Fault("damage", times=1)
    with pytest.raises(CheckpointError, match="arrived damaged"):
        resolve_folder("org/model")
    assert (resolve_folder("org/model") / file).read_bytes() == model_files()[file]


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_errors_of_single_files(hub, repo, status) -> None:
    repo.faults["model.safetensors"] = Fault("status", times=99, status=status)
    with pytest.raises(CheckpointError, match=rf"org/model.*{status}"):
        resolve_folder("org/model")


def test_no_weights_that_are_read(hub, client) -> None:
    hub.add("org/tf", {"config.json": b"{}", "tf_model.h5": b"x"})
    hub.add("org/empty", {})
    with pytest.raises(CheckpointError, match=r"another kind: 'tf_model\.h5'"):
        resolve_folder("org/tf")
    with pytest.raises(CheckpointError, match="it has 0 files"):
        resolve_folder("org/empty")
    assert hub.bodies() == []


@pytest.mark.parametrize("evil", ["../../escaped.txt", "/etc/escaped", "a/../../../escaped.txt", "C:\\x"])
def test_names_that_leave_the_cache(hub, client, tmp_path, evil) -> None:
    hub.add("org/evil", {**model_files(), evil: b"gotcha"})
    with pytest.raises(CheckpointError, match="download of org/evil failed"):
        resolve_folder("org/evil")
    assert not list(tmp_path.rglob("*escaped*"))


@pytest.mark.parametrize(
    "name", ["a--b", "org/..", "with space", "org/" + "x" * 200, "ends-", "ü/ü", "x" * 300]
)
def test_names_that_no_repository_has(hub, client, name) -> None:
    with pytest.raises(CheckpointError):
        resolve_folder(name)
    assert hub.requests == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_cache_that_cannot_be_written(hub, repo, monkeypatch, code) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("huggingface_hub.file_download._download_to_tmp_and_move", refuse)
    with pytest.raises(CheckpointError, match=r"org/model.*(Free some space|HF_HOME|try again)"):
        resolve_folder("org/model")
