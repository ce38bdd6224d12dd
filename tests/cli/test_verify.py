"""`biject verify-export` and `verify-matrix`: lines, JSON and exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from biject.verify.reference import make_reference


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("verify") / "source"
    make_reference("distilbert", "qa", folder, size="tiny")
    return folder


@pytest.fixture
def export(source, tmp_path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "export"))


def test_a_faithful_export_passes(run, source, export) -> None:
    outcome = run("verify-export", export, "--source", source)
    assert outcome.code == 0, outcome.out
    lines = outcome.out.splitlines()
    assert lines[-1].startswith("VERDICT PASS")
    for level in ("names", "bytes", "reload", "hf-forward", "forward", "gradients", "tokenizer"):
        assert any(line.startswith(f"PASS {level} ") for line in lines), level
    assert any(line.startswith("NOT CHECKED ") for line in lines)


def test_json_is_one_document(run, source, export) -> None:
    outcome = run("verify-export", export, "--source", source, "--level", "names,bytes", "--json")
    report = json.loads(outcome.out)
    assert report["passed"] is True
    assert [level["name"] for level in report["levels"]] == ["names", "bytes"]


def test_one_flipped_bit_fails(run, source, export) -> None:
    weights = export / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    outcome = run("verify-export", export, "--source", source, "--level", "bytes")
    assert outcome.code == 1
    assert outcome.out.splitlines()[-1].startswith("VERDICT FAIL")


def test_without_a_source_levels_are_skipped_and_said_so(run, export) -> None:
    outcome = run("verify-export", export, "--level", "names,reload")
    assert outcome.code == 0, outcome.out
    assert "SKIP names needs --source" in outcome.out


def test_an_unknown_level_is_wrong_usage(run, export) -> None:
    outcome = run("verify-export", export, "--level", "vibes")
    assert outcome.code == 2
    assert "vibes" in outcome.err


def test_the_matrix_keeps_what_it_made(run, tmp_path) -> None:
    arguments = ["--families", "bert", "--heads", "qa,tokcls", "--keep", tmp_path / "kept"]
    outcome = run("verify-matrix", *arguments)
    assert outcome.code == 0, outcome.out
    assert outcome.out.splitlines()[-1] == "VERDICT PASS 2/2 cells (tiny weights)"
    assert (tmp_path / "kept" / "bert" / "qa" / "export" / "config.json").is_file()
    before = sorted(tmp_path.rglob("*"))
    again = run("verify-matrix", "--families", "bert,albert", "--keep", tmp_path / "kept")
    assert again.code == 2
    assert "holds bert/tokcls, bert/qa already" in again.err
    assert again.out == ""
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "file").write_text("")
    outcome = run("verify-matrix", "--families", "bert", "--heads", "qa", "--keep", tmp_path / "file")
    assert outcome.code == 2
    assert "is a file" in outcome.err


def test_a_failing_cell_fails_the_matrix_but_not_the_others(run, monkeypatch) -> None:
    from biject.verify import reference

    make = reference.make_reference

    def breaks_on_qa(name, head, folder, **options):
        if head == "qa":
            raise RuntimeError("no such luck")
        return make(name, head, folder, **options)

    monkeypatch.setattr(reference, "make_reference", breaks_on_qa)
    outcome = run("verify-matrix", "--families", "bert", "--heads", "qa,tokcls", "--json")
    matrix = json.loads(outcome.out)
    assert outcome.code == 1
    assert [cell["passed"] for cell in matrix["cells"]] == [False, True]
    assert "no such luck" in matrix["cells"][0]["error"]


def test_the_matrix_names_an_unknown_family(run) -> None:
    outcome = run("verify-matrix", "--families", "perceiver")
    assert outcome.code == 2
    assert "perceiver" in outcome.err
