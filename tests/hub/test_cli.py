"""`biject export --hub REPO` in a process of its own, told where the Hub is by the environment alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from biject.verify.reference import make_reference

from .server import Fault, HubServer, folder_files


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", "seqcls", tmp_path_factory.mktemp("hub") / "source")


@pytest.fixture
def export(hub: HubServer, tmp_path: Path):
    def call(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        environment = {**clean, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), **settings}
        command = [sys.executable, "-m", "biject.cli.main", "export", *map(str, arguments)]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )

    return call


def test_end_to_end(hub: HubServer, export, source: Path, tmp_path: Path) -> None:
    repo = hub.add("org/model", source)
    repo.commit({**folder_files(source), "onnx/model.onnx": b"onnx", "tf_model.h5": b"tf"}, ref="v2")
    hub.tokens = {"hf_good"}
    outcome = export("--hub", "org/model", "--revision", "v2", "--out", "out", HF_TOKEN="hf_good")
    assert outcome.returncode == 0, outcome.stderr
    assert "UNCHANGED" in outcome.stdout
    assert outcome.stderr == ""
    assert folder_files(tmp_path / "out") == folder_files(source)
    assert {request.token for request in hub.requests} == {"hf_good", None}  # None: the other host
    hub.requests.clear()
    offline = export("--hub", "org/model", "--revision", "v2", "--out", "offline", HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr
    assert offline.stderr.startswith("biject: note: ")
    assert folder_files(tmp_path / "offline") == folder_files(source)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (["--hub", "org/nothing"], {}, "no such repository"),
        (["--hub", "org/model", "--revision", "v9"], {}, "no revision 'v9'"),
        (["--hub", "org/gated"], {}, "gated"),
        (["--hub", "org/gated"], {"HF_TOKEN": "hf_wrong_secret"}, "does not accept your token"),
        (["--hub", "org/model"], {"HF_HUB_OFFLINE": "1"}, "cache does not have"),
        (["--hub", "org/model"], {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached"),
        (["--hub", "org/model"], {"HF_ENDPOINT": "nonsense"}, "org/model"),
        (["--hub", "org/short"], {}, "should be of size"),
    ],
)
def test_each_failure_is_one_message(
    hub: HubServer, export, source: Path, tmp_path, arguments, settings, message
):
    hub.add("org/model", source)
    hub.add("org/gated", source, gated=True)
    hub.add("org/short", source).faults["config.json"] = Fault("short", times=99)
    outcome = export(*arguments, "--out", "out", **settings)
    assert outcome.returncode == 2, outcome.stderr
    assert outcome.stdout == ""
    lines = [line for line in outcome.stderr.splitlines() if not line.startswith("biject: note: ")]
    assert lines[-1].startswith("biject: error: "), outcome.stderr
    assert message in lines[-1]
    assert "Traceback" not in outcome.stderr
    assert "hf_wrong_secret" not in outcome.stderr
    assert not (tmp_path / "out").exists()
