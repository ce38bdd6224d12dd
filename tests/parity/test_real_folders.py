"""Real checkpoints of other people's making, each the whole way: inspect, export, verify, and use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import biject
from biject.cli.main import main
from biject.errors import ConfigError
from biject.export import export_checkpoint
from biject.inspection import inspect_folder
from parity.real import real_folder

LEVELS = ["names", "bytes", "reload", "hf-forward", "forward", "tokenizer"]


def proved(folder: Path, source: Path) -> str:
    report = biject.verify_export(folder, source=source, levels=LEVELS)
    assert report.passed, report.lines()
    return "\n".join(report.lines())


def test_a_folder_without_family_and_with_transposed_matrices(tmp_path: Path) -> None:
    source = real_folder("rxnfp-pretrained")
    assert not inspect_folder(source).usable
    assert main(["inspect", str(source)]) == 1
    with pytest.raises(ConfigError, match="family"):
        biject.load(source)
    out = export_checkpoint(source, out=tmp_path / "out", family="bert").folder
    said = proved(out, source)
    assert "73 matrices of the source lie transposed in its .bin" in said
    assert "as declared: architectures (absent -> ['BertForMaskedLM']), model_type (absent -> 'bert')" in said
    assert main(["inspect", str(out)]) == 0
    vectors = biject.pipeline("feature-extraction", model=out)("CCO.Cl>>CCCl")
    assert torch.as_tensor(vectors).isfinite().all()


def test_a_classifier_whose_names_are_stale(tmp_path: Path) -> None:
    source = real_folder("rxnfp-classes")
    assert inspect_folder(source).usable
    out = export_checkpoint(source, out=tmp_path / "out").folder
    proved(out, source)
    found = biject.pipeline("text-classification", model=out)("CCO.Cl>>CCCl", top_k=None)
    assert len(found) == 50
    assert found[0]["label"] == "LABEL_18"


@pytest.mark.parametrize("name", ["bert-tiny-mlm", "rxnmapper-albert"])
def test_the_others(name: str, tmp_path: Path) -> None:
    source = real_folder(name)
    assert main(["inspect", str(source)]) == 0
    out = export_checkpoint(source, out=tmp_path / "out").folder
    proved(out, source)
    model = biject.load(out)
    assert model.head_name == "mlm"
    assert model(torch.tensor([[5, 6, 7]])).logits.isfinite().all()
