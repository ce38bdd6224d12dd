"""`biject export`, on a tiny reference that transformers made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from biject.checkpoint.header import read_header
from biject.verify.reference import make_reference


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "source"
    make_reference("bert", "mlm", folder, size="tiny")
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_what_changes_nothing_is_byte_identical(run, source, tmp_path) -> None:
    outcome = run("export", "--hub", source, "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert digests(tmp_path / "out") == digests(source)
    assert "UNCHANGED every file is identical to the source's" in outcome.out
    assert "EXPORTED BertForMaskedLM" in outcome.out


def test_json_lists_what_was_written(run, source, tmp_path) -> None:
    found = json.loads(run("export", "--hub", source, "--out", tmp_path / "out", "--json").out)
    assert found["files"] == digests(tmp_path / "out")
    assert found["changes"] == []
    assert found["architecture"] == "BertForMaskedLM"


def test_a_dtype_is_cast_and_listed(run, source, tmp_path) -> None:
    outcome = run("export", "--hub", source, "--out", tmp_path / "out", "--dtype", "bfloat16")
    header = read_header(tmp_path / "out" / "model.safetensors")
    assert {info.dtype for info in header.tensors.values()} == {"BF16"}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    assert "CHANGED" in outcome.out


def test_weights_are_cut_anew_when_asked(run, source, tmp_path) -> None:
    outcome = run("export", "--hub", source, "--out", tmp_path / "out", "--max-shard-size", "50kB")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out" / "model.safetensors.index.json").is_file()
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_another_head_lists_what_it_leaves_out(run, source, tmp_path) -> None:
    found = json.loads(
        run("export", "--hub", source, "--out", tmp_path / "out", "--head", "base", "--json").out
    )
    assert found["architecture"] == "BertModel"
    assert "left out: cls.predictions.transform.dense.weight" in found["changes"]


def test_a_head_that_is_not_there_is_an_error_that_names_it(run, source, tmp_path) -> None:
    outcome = run("export", "--hub", source, "--out", tmp_path / "out", "--head", "tokcls")
    assert outcome.code == 2
    assert "classifier.weight" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_new_head_is_said_and_recorded(run, source, tmp_path) -> None:
    arguments = ["--head", "tokcls", "--new-head", "O,B-PER,I-PER"]
    outcome = run("export", "--hub", source, "--out", tmp_path / "out", *arguments)
    assert outcome.code == 0, outcome.err
    assert "randomly initialised" in outcome.err
    assert "CHANGED new, random: classifier.weight" in outcome.out
    assert "classifier.weight" in (tmp_path / "out" / "biject.json").read_text()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "O", "1": "B-PER", "2": "I-PER"}


def test_an_existing_folder_is_replaced_only_by_force(run, source, tmp_path) -> None:
    arguments = ["export", "--hub", source, "--out", tmp_path / "out"]
    assert run(*arguments).code == 0
    refused = run(*arguments)
    assert refused.code == 2
    assert "exists" in refused.err
    assert run(*arguments, "--force").code == 0
