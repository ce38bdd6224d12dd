"""`verify_export` and `verify_matrix` as calls: arguments, what is skipped, intended changes, going on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from biject.errors import BijectError, ConfigError, InputError
from biject.export import export_checkpoint
from biject.verify import LEVELS, verify_export, verify_matrix
from biject.verify.reference import make_reference


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_reference("bert", "mlm", tmp_path_factory.mktemp("verify") / "source")
    (folder / "README.md").write_text("a card")
    return folder


def test_alone_some_levels_are_skipped_and_listed(source: Path) -> None:
    report = verify_export(source)
    assert report.passed
    assert [level.name for level in report.levels if level.status == "skipped"] == [
        "names",
        "bytes",
        "hf-forward",
    ]
    assert any("no source was given" in sentence for sentence in report.not_checked)
    probe = report.environment["kernel probe"]
    assert probe["conditions"]["threads"] == str(torch.get_num_threads())
    assert any(question.startswith("linear ") for question in probe["answers"])
    assert report.environment["attention backend"] == "sdpa"
    assert report.model["class"] == "BertForMaskedLM"
    json.loads(report.to_json())


def test_levels_by_name(source: Path) -> None:
    report = verify_export(source, levels=["forward", "reload"])
    assert [level.name for level in report.levels] == ["reload", "forward"]
    assert any("levels not requested: names, bytes" in sentence for sentence in report.not_checked)
    with pytest.raises(InputError, match="backward"):
        verify_export(source, levels=["backward"])


def test_prompt(source: Path) -> None:
    report = verify_export(source, prompt="the quick brown [MASK]", levels=["forward"])
    assert any(check.case == "prompt" and check.passed for check in report.level("forward").checks)


def test_prompt_needs_a_tokenizer(source: Path, tmp_path: Path) -> None:
    export_checkpoint(source, out=tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / "out" / name).unlink()
    with pytest.raises(InputError, match="tokenizer"):
        verify_export(tmp_path / "out", prompt="hello")


def test_unusable_folders_are_errors(tmp_path: Path, source: Path) -> None:
    with pytest.raises(BijectError):
        verify_export(tmp_path / "nothing")
    export_checkpoint(source, out=tmp_path / "out")
    config = tmp_path / "out" / "config.json"
    config.write_text(config.read_text().replace('"model_type": "bert"', '"model_type": "unheard-of"'))
    with pytest.raises(ConfigError, match="unheard-of"):
        verify_export(tmp_path / "out", levels=["reload"])
    assert [c.name for c in verify_export(tmp_path / "out").level("lint").failures] == ["unknown-family"]


@pytest.mark.filterwarnings("ignore::biject.errors.BijectWarning")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"head": "base"}, "head changed, as listed: not in the export: cls.predictions.bias"),
        ({"head": "seqcls", "new_head": ["no", "yes", "so"]}, None),
        ({"head": "tokcls", "new_head": ["keep"]}, "only in the export: classifier.bias, classifier.weight"),
        ({"dtype": "bfloat16"}, "cast as declared"),
        ({"max_shard_size": "30KB"}, "another layout: model.safetensors ->"),
    ],
    ids=str,
)
def test_intended_changes_pass_and_are_listed(
    source: Path, tmp_path: Path, options: dict, said: str | None
) -> None:
    if options.get("head") == "seqcls":  # needs a pooler, which a masked LM does not have
        source = make_reference("bert", "base", tmp_path / "base")
        said = "only in the export: classifier.bias, classifier.weight"
    export_checkpoint(source, out=tmp_path / "out", **options)
    report = verify_export(tmp_path / "out", source=source)
    assert report.passed, report.lines()
    assert said is not None
    assert any(said in line for line in report.lines()), report.lines()


@pytest.mark.filterwarnings("ignore::biject.errors.BijectWarning")
def test_a_head_change_that_lost_a_base_tensor_fails(source: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    export_checkpoint(source, out=tmp_path / "out", head="base")
    path = tmp_path / "out" / "model.safetensors"
    tensors = load_file(path)
    gone = next(name for name in tensors if name.endswith("layer.1.output.dense.bias"))
    del tensors[gone]
    save_file(tensors, path, metadata={"format": "pt"})
    report = verify_export(tmp_path / "out", source=source, levels=["names", "reload"])
    assert f"not in the export: {gone}" in "\n".join(report.level("names").lines())
    assert report.level("reload").status == "fail"


def test_matrix_of_two_cells(tmp_path: Path) -> None:
    seen = []
    result = verify_matrix(families=["distilbert"], heads=["qa", "base"], keep=tmp_path, on_cell=seen.append)
    assert result.passed
    assert [cell.head for cell in seen] == ["qa", "base"]
    assert result.grid() == (["family", "base", "qa"], [["distilbert", "PASS", "PASS"]])
    assert result.lines()[-1] == "VERDICT PASS 2/2 cells (tiny weights)"
    assert json.loads((tmp_path / "distilbert" / "qa" / "report.json").read_text())["passed"]
    names = {level.name for level in result.cells[0].report.levels}
    assert names == set(LEVELS) - {"lint", "faults", "steps"} | {"adapter"}
    value = json.loads(result.to_json())
    assert value["cells"][1]["report"]["passed"] is True


def test_matrix_goes_on_after_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    from biject.verify import matrix

    honest = matrix._export_and_verify

    def broken(name: str, head: str, folder: Path, **options: object) -> object:
        if head == "base":
            raise RuntimeError("no space")
        return honest(name, head, folder, **options)

    monkeypatch.setattr(matrix, "_export_and_verify", broken)
    result = verify_matrix(families=["bert"], heads=["base", "mlm"])
    assert not result.passed
    assert result.grid()[1] == [["bert", "FAIL export", "PASS"]]
    assert "FAIL bert base: RuntimeError: no space" in result.lines()
    assert result.lines()[-1] == "VERDICT FAIL 1/2 cells (tiny weights)"


@pytest.mark.parametrize(
    "options", [{"families": ["gpt5"]}, {"heads": ["tail"]}, {"weights": "huge"}], ids=str
)
def test_matrix_arguments(options: dict) -> None:
    with pytest.raises(InputError):
        verify_matrix(**options)


@pytest.mark.parametrize("legacy", [True, False])
def test_the_tensors_decide_debertas_head(legacy: bool, tmp_path: Path) -> None:
    """`config.json` contradicts the tensors: both sides go by the tensors; the report says what HF needs."""
    folder = make_reference("deberta-v2", "mlm", tmp_path / "m", overrides={"legacy": legacy})
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"legacy": not legacy}))
    report = verify_export(folder)
    assert report.passed, report.lines()
    assert any(f"legacy={legacy} has to be given to from_pretrained" in line for line in report.lines())
