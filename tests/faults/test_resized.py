"""A declared change of the vocabulary's size: what both have is compared, and what is not declared fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from biject.pretrained import load
from biject.record import RECORD, Record
from biject.verify import verify_export
from biject.verify.reference import make_reference
from biject.verify.report import Report

pytestmark = pytest.mark.attack("differences that an export does not declare")
LEVELS = ["names", "bytes", "reload", "hf-forward"]
TABLE = "embeddings.word_embeddings.weight"


@pytest.fixture(scope="module", params=["mlm", "seqcls"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", request.param, tmp_path_factory.mktemp("resized") / "source")


def resized(source: Path, out: Path, by: int) -> Path:
    model = load(source)
    torch.manual_seed(0)
    model.resize_token_embeddings(model.embed.tokens.num_embeddings + by)
    model.save_pretrained(out)
    return out


def lines(report: Report) -> str:
    return "\n".join(report.lines())


@pytest.mark.parametrize("by", [8, -8])
def test_a_declared_resize_passes_and_says_what_changed(by: int, source: Path, tmp_path: Path) -> None:
    export = resized(source, tmp_path / "export", by)
    size = json.loads((source / "config.json").read_text())["vocab_size"]
    report = verify_export(export, source=source, levels=LEVELS)
    assert [report.level(name).status for name in LEVELS] == ["pass"] * 4, lines(report)
    assert f"{TABLE} ({size} -> {size + by} rows)" in lines(report)
    faults = verify_export(export, source=source, levels=["faults"])
    assert faults.passed, lines(faults)


def test_a_shared_row_that_differs_fails(source: Path, tmp_path: Path) -> None:
    export = resized(source, tmp_path / "export", 8)
    tensors = load_file(export / "model.safetensors")
    name = next(name for name in tensors if name.endswith(TABLE))
    tensors[name][2, 1] += 0.25
    save_file(tensors, export / "model.safetensors", metadata={"format": "pt"})
    report = verify_export(export, source=source, levels=LEVELS)
    assert report.level("bytes").status == report.level("hf-forward").status == "fail"
    assert name in lines(report)


def test_a_resize_that_is_not_declared_fails(source: Path, tmp_path: Path) -> None:
    export = resized(source, tmp_path / "export", 8)
    record = json.loads((export / RECORD).read_text())
    del record["resized"]
    (export / RECORD).write_text(json.dumps(record))
    assert verify_export(export, source=source, levels=["bytes"]).level("bytes").status == "fail"


def test_the_resize_of_a_resized_one_is_its_own(source: Path, tmp_path: Path) -> None:
    once = resized(source, tmp_path / "once", 8)
    twice = resized(once, tmp_path / "twice", 8)
    report = verify_export(twice, source=once, levels=LEVELS)
    assert report.passed, lines(report)
    record = json.loads((twice / RECORD).read_text())
    (twice / RECORD).write_text(json.dumps({**record, "replaced": {}}))
    assert Record.read(twice).resized
    assert not verify_export(twice, source=once, levels=["bytes"]).passed  # only `once` declares that much
