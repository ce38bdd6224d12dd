"""`num_labels` beside an `id2label` of another length: HF takes the former, and so do we, not in silence."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

import biject
from biject.cli.main import main
from biject.inspection import inspect_folder
from biject.verify.reference import make_reference
from parity.harness import hf_model

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture(params=["bert", "modernbert", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    five = {str(index): f"name {index}" for index in range(5)}
    turned = {name: int(index) for index, name in five.items()}
    made = make_reference(
        request.param, "seqcls", tmp_path / "model", overrides={"id2label": five, "label2id": turned}
    )
    config = json.loads((made / "config.json").read_text())
    config |= {"num_labels": 5, "id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}}
    (made / "config.json").write_text(json.dumps(config))
    return made


def test_num_labels_counts_as_in_hf(folder: Path) -> None:
    with pytest.warns(UserWarning, match="`num_labels` is 5, `id2label` names 2"):
        ours = biject.AutoModelForSequenceClassification.from_pretrained(folder)
    theirs = hf_model(folder, ours)
    assert torch.equal(ours(IDS).logits, theirs(IDS).logits)
    assert ours.config.num_labels == theirs.config.num_labels == 5
    assert ours.id2label == theirs.config.id2label
    assert ours.config.label2id == theirs.config.label2id


def test_inspect_names_it_and_the_linter_finds_it(folder: Path) -> None:
    found = inspect_folder(folder)
    assert found.usable
    assert any("`num_labels` is 5" in oddity for oddity in found.oddities)
    report = biject.verify_export(folder, levels=["lint"])
    assert "labels-stale" in "\n".join(report.lines())


def test_it_is_exported_and_verified(folder: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        biject.AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(tmp_path / "out")
    report = biject.verify_export(tmp_path / "out", source=folder)
    assert report.passed, report.lines()


def test_inspect_refuses_what_loading_refuses(tmp_path: Path) -> None:
    for key, value in (("num_labels", 7), ("vocab_size", 100)):
        made = make_reference("bert", "seqcls", tmp_path / key)
        assert inspect_folder(made).usable
        config = json.loads((made / "config.json").read_text())
        (made / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(biject.WeightsError, match="by config"):
            biject.load(made)
        assert not inspect_folder(made).usable
        assert main(["inspect", str(made)]) == 1
