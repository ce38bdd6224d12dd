"""What the source's own record declares was so before: a copy of a merged model is compared whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from biject.config.adapter import LoraConfig
from biject.export import export_checkpoint
from biject.merging.merge import merge
from biject.pretrained import load
from biject.record import Record
from biject.save import save_model
from biject.verify import verify_export
from biject.verify.reference import make_reference
from biject.verify.report import Report

pytestmark = pytest.mark.attack("differences that an export does not declare")
LEVELS = ["names", "bytes", "hf-forward"]
FILE = "tokenizer_config.json"


def adapter(base: Path, folder: Path, *, seed: int, targets: list[str]) -> Path:
    model = load(base)
    torch.manual_seed(seed)
    model.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=targets))
    model.save_adapter(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", "seqcls", tmp_path_factory.mktemp("inherited") / "base")


@pytest.fixture(scope="module")
def merged(base: Path) -> Path:
    out = base.with_name("merged")
    merge(adapter(base, base.with_name("first"), seed=0, targets=["query", "value"]), out)
    return out


def spoil(folder: Path, ending: str) -> str:
    """Add to one number of the first tensor with this end of its name."""
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith(ending))
    tensors[name].view(-1)[3] += 0.25
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return name


def lines(report: Report) -> str:
    return "\n".join(report.lines())


def test_a_good_copy_of_a_merged_model_is_compared_whole(merged: Path, tmp_path: Path) -> None:
    copy = export_checkpoint(str(merged), out=tmp_path / "copy").folder
    assert Record.read(copy).merged == Record.read(merged).merged != ()
    report = verify_export(copy, source=merged, levels=LEVELS)
    assert [level.status for level in report.levels] == ["pass"] * 3, lines(report)
    assert "merged" not in lines(report).replace(str(copy), "").replace(str(merged), "")


def test_a_spoilt_copy_of_a_merged_model_fails(merged: Path, tmp_path: Path) -> None:
    copy = export_checkpoint(str(merged), out=tmp_path / "copy").folder
    name = spoil(copy, "query.weight")
    report = verify_export(copy, source=merged, levels=LEVELS)
    assert report.level("bytes").status == report.level("hf-forward").status == "fail"
    assert name in lines(report)


def test_a_merge_is_still_declared(base: Path, merged: Path) -> None:
    report = verify_export(merged, source=base, levels=LEVELS)
    assert report.passed
    assert report.level("hf-forward").status == "skipped"


def test_a_second_merge_declares_its_own_tensors_alone(merged: Path, tmp_path: Path) -> None:
    merge(adapter(merged, tmp_path / "second", seed=1, targets=["query"]), tmp_path / "twice")
    report = verify_export(tmp_path / "twice", source=merged, levels=["names", "bytes"])
    assert report.passed, lines(report)
    name = spoil(tmp_path / "twice", "value.weight")
    report = verify_export(tmp_path / "twice", source=merged, levels=["names", "bytes"])
    assert report.level("bytes").status == "fail"
    assert name in lines(report)


@pytest.mark.parametrize("with_source", [True, False])
def test_faults_are_planted_in_a_merged_model(base: Path, merged: Path, with_source: bool) -> None:
    report = verify_export(merged, source=base if with_source else None, levels=["faults"])
    assert report.passed, lines(report)
    assert "bit-flipped" in lines(report)


def rewritten(folder: Path, out: Path, text: bytes) -> Path:
    """The same model with other settings of the tokenizer, which its record declares."""
    save_model(load(folder), out, extra={FILE: text})
    assert Record.read(out).files == {FILE: "changed"}
    return out


def test_a_file_that_was_changed_before_is_compared(base: Path, tmp_path: Path) -> None:
    before = rewritten(base, tmp_path / "before", b'{"model_max_length": 16}')
    assert verify_export(before, source=base, levels=["bytes"]).passed
    copy = shutil.copytree(before, tmp_path / "copy")
    (copy / FILE).write_bytes(b'{"model_max_length": 17}')
    report = verify_export(copy, source=before, levels=["bytes"])
    assert not report.passed
    assert f"{FILE} (changed)" in lines(report)
    again = rewritten(before, tmp_path / "again", b'{"model_max_length": 17}')
    report = verify_export(again, source=before, levels=["bytes"])
    assert report.passed, lines(report)
