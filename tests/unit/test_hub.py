"""Names of checkpoints: folders, repositories, and neither. The Hub itself is not asked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from biject.checkpoint.hub import resolve_folder, wanted_files
from biject.errors import BijectWarning, CheckpointError, InputError

ASSETS = ["README.md", "config.json", "vocab.txt", "1_Pooling/config.json"]
OTHERS = ["tf_model.h5", "flax_model.msgpack", "onnx/model.onnx", "model.fp16.safetensors"]


@pytest.mark.parametrize(
    ("weights", "left"),
    [
        (["model.safetensors"], ["pytorch_model.bin", *OTHERS]),
        (["pytorch_model.bin"], OTHERS),
        (
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ],
            ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json", *OTHERS],
        ),
        (["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"], OTHERS),
    ],
)
def test_one_format_of_weights_is_wanted(weights: list[str], left: list[str]) -> None:
    assert wanted_files([*ASSETS, *weights, *left]) == [*ASSETS, *weights]


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert resolve_folder(tmp_path) == tmp_path
    assert resolve_folder(str(tmp_path)) == tmp_path


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="revision 'main'"):
        resolve_folder(tmp_path, revision="main")


@pytest.mark.parametrize("name", ["./nothing", "/nothing/at/all", "a/b/c", "../x", "", Path("nothing")])
def test_what_cannot_be_a_repository_is_a_missing_folder(
    name: str | Path, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        resolve_folder(name)


class FakeHub:
    """Stands for `HfApi` and `snapshot_download`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder, self.calls, self.online, self.cached = folder, [], True, False
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot)

    def model_info(self, name: str, *, revision: str | None) -> Any:
        if not self.online:
            raise RuntimeError("no route to host")
        files = [
            SimpleNamespace(rfilename=f) for f in ("config.json", "model.safetensors", "pytorch_model.bin")
        ]
        return SimpleNamespace(sha="5ha", siblings=files)

    def snapshot(self, name: str, **options: Any) -> str:
        self.calls.append((name, options))
        if options.get("local_files_only") and not self.cached:
            raise LocalEntryNotFoundError("not in the cache")
        return str(self.folder)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    monkeypatch.chdir(tmp_path)
    return FakeHub(monkeypatch, tmp_path)


def test_a_repository_is_downloaded_at_one_commit(hub: FakeHub) -> None:
    assert resolve_folder("org/model", revision="main") == hub.folder
    assert hub.calls == [
        ("org/model", {"revision": "5ha", "allow_patterns": ["config.json", "model.safetensors"]})
    ]


def test_without_a_network_the_cache_is_used_and_said_so(hub: FakeHub) -> None:
    hub.online, hub.cached = False, True
    with pytest.warns(BijectWarning, match="local cache"):
        assert resolve_folder("model") == hub.folder


def test_without_a_network_and_cache_both_are_named(hub: FakeHub) -> None:
    hub.online = False
    with pytest.raises(CheckpointError, match=r"no local folder 'model'.*no route to host"):
        resolve_folder("model")
