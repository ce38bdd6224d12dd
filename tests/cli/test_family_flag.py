"""`--family` and `family=`: a folder whose config.json names none is inspected and used, as it is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import biject
from biject.errors import ConfigError
from biject.inspection import inspect_folder
from biject.verify.reference import make_reference


def bare(folder: Path, out: Path) -> Path:
    """A copy without `model_type`."""
    shutil.copytree(folder, out)
    written = json.loads((out / "config.json").read_text())
    del written["model_type"]
    (out / "config.json").write_text(json.dumps(written))
    return out


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", "seqcls", tmp_path_factory.mktemp("family") / "named")


@pytest.fixture
def folder(named: Path, tmp_path: Path) -> Path:
    return bare(named, tmp_path / "bare")


def test_inspect(run: Any, folder: Path, named: Path) -> None:
    assert run("inspect", folder).code == 1
    done = run("inspect", folder, "--family", "bert", "--json")
    assert done.code == 0, done.err
    found, expected = json.loads(done.out), inspect_folder(named).to_dict()
    assert found["model_type"] == "bert"
    for key in ("head", "hf_class", "num_parameters", "passthrough", "problems"):
        assert found[key] == json.loads(json.dumps(expected[key])), key
    assert run("inspect", named, "--family", "bert").code == 0


def test_inspect_refuses_another_family(run: Any, folder: Path, named: Path) -> None:
    done = run("inspect", named, "--family", "roberta")
    assert done.code == 2
    assert "is for folders without one" in done.err
    assert run("inspect", folder, "--family", "nonsense").code == 1


def test_predict_and_pipeline(run: Any, folder: Path, named: Path) -> None:
    assert run("predict", folder, "a text").code == 2
    done = run("predict", folder, "a text", "--family", "bert", "--json")
    assert done.code == 0, done.err
    same = run("predict", named, "a text", "--json")
    assert json.loads(done.out) == json.loads(same.out.replace(str(named), str(folder)))
    assert biject.pipeline(folder, family="bert")("a text") == biject.pipeline(named)("a text")


def test_a_folder_of_pictures(folder: Path, tmp_path: Path) -> None:
    vit = bare(make_reference("vit", "imgcls", tmp_path / "vit"), tmp_path / "bare-vit")
    assert inspect_folder(vit, family="vit").usable
    assert biject.pipeline(vit, family="vit").name == "classify-pictures"


def test_where_it_has_no_meaning(named: Path) -> None:
    loaded = biject.AutoModelForSequenceClassification.from_pretrained(named)
    with pytest.raises(ConfigError, match="leave it out with a loaded model"):
        biject.pipeline("text-classification", model=loaded, family="bert")
    with pytest.raises(ConfigError, match="backend='hf'"):
        biject.pipeline(named, family="bert", backend="hf")
