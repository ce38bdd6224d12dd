"""A verifier must be able to fail: faults planted in a copy of an export, checked against the source."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from biject.errors import CheckpointError
from biject.verify import verify_export
from biject.verify.reference import make_reference
from biject.verify.report import Report
from faults.plant import Tensors, edit_config, edit_tensors, flip_bit, swap

pytestmark = pytest.mark.attack("exports with a planted fault")

LAYER = "bert.encoder.layer.1.attention.self"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "source"
    # eps and the activation are not HF's defaults, so that losing them shows
    overrides = {"layer_norm_eps": 1e-4, "hidden_act": "relu", "id2label": {0: "no", 1: "yes", 2: "maybe"}}
    return make_reference("bert", "seqcls", folder, overrides=overrides)


@pytest.fixture
def export(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "export"))


def failed(report: Report) -> dict[str, str]:
    """Level -> its failing lines."""
    return {
        level.name: "\n".join(line for line in level.lines() if line.startswith("FAIL"))
        for level in report.levels
        if level.status == "fail"
    }


def test_an_honest_copy_passes(source: Path, export: Path) -> None:
    report = verify_export(export, source=source)
    assert report.passed, report.lines()


def test_one_flipped_bit(source: Path, export: Path) -> None:
    edit_tensors(export, lambda tensors: flip_bit(tensors[f"{LAYER}.key.weight"]))
    found = failed(verify_export(export, source=source))
    assert set(found) == {"bytes", "hf-forward"}
    assert f"{LAYER}.key.weight (1 of 4096 bytes)" in found["bytes"]
    assert f"{LAYER}.key itself: same input, other output" in found["hf-forward"]


def test_the_lowest_bit_is_enough_for_bytes(source: Path, export: Path) -> None:
    edit_tensors(export, lambda tensors: flip_bit(tensors["classifier.bias"], bit=0, index=0))
    assert "classifier.bias" in failed(verify_export(export, source=source, levels=["bytes"]))["bytes"]


def test_swapped_query_and_key(source: Path, export: Path) -> None:
    edit_tensors(export, lambda tensors: swap(tensors, f"{LAYER}.query", f"{LAYER}.key"))
    found = failed(verify_export(export, source=source))
    assert {"bytes", "hf-forward"} <= set(found)
    assert f"{LAYER}.query itself" in found["hf-forward"]


def test_transposed_square_weight(source: Path, export: Path) -> None:
    name = "bert.encoder.layer.0.attention.output.dense"

    def transpose(tensors: Tensors) -> None:
        tensors[f"{name}.weight"] = tensors[f"{name}.weight"].T

    edit_tensors(export, transpose)
    found = failed(verify_export(export, source=source))
    assert f"{name} itself" in found["hf-forward"]
    assert name in found["bytes"]


def test_dropped_bias(source: Path, export: Path) -> None:
    name = f"{LAYER}.value.bias"
    edit_tensors(export, lambda tensors: tensors.pop(name))
    found = failed(verify_export(export, source=source))
    assert f"not in the export: {name}" in found["names"]
    assert f"new: {name}" in found["reload"]
    assert name in found["forward"]  # Biject refuses to invent it


def test_dropped_bias_without_a_source(export: Path) -> None:
    edit_tensors(export, lambda tensors: tensors.pop(f"{LAYER}.value.bias"))
    found = failed(verify_export(export))
    assert f"{LAYER}.value.bias" in found["reload"]


def test_eps_times_ten(source: Path, export: Path) -> None:
    edit_config(export, lambda config: config.update(layer_norm_eps=1e-3))
    found = failed(verify_export(export, source=source))
    assert "layer_norm_eps (0.0001 -> 0.001)" in found["bytes"]
    assert "bert.embeddings.LayerNorm itself" in found["hf-forward"]


def test_lost_config_key(source: Path, export: Path) -> None:
    edit_config(export, lambda config: config.pop("hidden_act"))
    found = failed(verify_export(export, source=source))
    assert "hidden_act ('relu' -> absent)" in found["bytes"]
    assert "bert.encoder.layer.0.intermediate.intermediate_act_fn itself" in found["hf-forward"]


def test_lost_label_map(source: Path, export: Path) -> None:
    edit_config(export, lambda config: (config.pop("id2label"), config.pop("label2id")))
    found = failed(verify_export(export, source=source))
    assert "id2label" in found["bytes"]
    assert (
        "new: classifier.bias, classifier.weight" in found["reload"]
    )  # three rows in the file, two by default


def test_another_tokenizer(source: Path, export: Path) -> None:
    path = export / "tokenizer.json"
    path.write_text(path.read_text().replace("fox", "dog "))
    (export / "special_tokens_map.json").unlink()
    found = failed(verify_export(export, source=source, levels=["bytes"]))
    assert "not declared: special_tokens_map.json (left out), tokenizer.json (changed)" in found["bytes"]


def test_wrong_class_without_a_source(export: Path) -> None:
    edit_config(export, lambda config: config.update(architectures=["BertForMaskedLM"]))
    found = failed(verify_export(export, levels=["reload", "forward"]))
    assert "cls.predictions" in found["reload"]
    assert "forward" in found


def test_nan_without_a_source(export: Path) -> None:
    edit_tensors(export, lambda tensors: tensors["classifier.weight"].fill_(float("nan")))
    found = failed(verify_export(export))
    assert "NaN or infinite: classifier.weight" in found["reload"]
    assert "NaN in the output" in found["forward"]


def test_truncated_file_is_unusable(source: Path, export: Path) -> None:
    path = export / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        verify_export(export, source=source)
