"""A difference from the source fails where the export does not declare it, whatever its config says of it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from biject.errors import InputError
from biject.export import export_checkpoint
from biject.record import RECORD, Record
from biject.verify import verify_export
from biject.verify.levels.hf_forward import largest_difference
from biject.verify.reference import make_reference
from biject.verify.report import Report

pytestmark = pytest.mark.attack("differences that an export does not declare")
LEVELS = ["names", "bytes", "reload"]
LABELS = {"id2label": {"0": "no", "1": "mid", "2": "yes"}, "label2id": {"no": 0, "mid": 1, "yes": 2}}
Change = Callable[[Path], None]


@pytest.fixture(scope="module", params=["bert", "gpt2", "modernbert"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undeclared") / request.param
    made = make_reference(request.param, "seqcls", folder, overrides=LABELS)
    (made / "README.md").write_text("about these weights\n")
    return made


@pytest.fixture
def export(source: Path, tmp_path: Path) -> Path:
    return export_checkpoint(source, out=tmp_path / "export").folder


def lines(report: Report) -> str:
    return "\n".join(report.lines())


def config(**values: Any) -> Change:
    """Set keys; None removes."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        new = {**json.loads(path.read_text()), **values}
        kept = {key: value for key, value in new.items() if value is not None}
        path.write_text(json.dumps(kept, indent=2) + "\n")

    return change


def null(key: str) -> Change:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: None}, indent=2) + "\n")

    return change


def cast(to: torch.dtype, share: int = 1, **values: Any) -> Change:
    """Every `share`-th tensor in another dtype."""

    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        for name in sorted(tensors)[::share]:
            tensors[name] = tensors[name].to(to)
        save_file(tensors, path, metadata={"format": "pt"})
        config(**values)(folder)

    return change


def one_cast(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = max(tensors)
    tensors[name] = tensors[name].half()
    save_file(tensors, path, metadata={"format": "pt"})


def without_head(**values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        kept = {
            name: t for name, t in tensors.items() if not name.startswith(("classifier", "score", "head"))
        }
        save_file(kept, path, metadata={"format": "pt"})
        config(**values)(folder)

    return change


def both(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change


PERMUTED = {"id2label": {"0": "mid", "1": "no", "2": "yes"}, "label2id": {"mid": 0, "no": 1, "yes": 2}}
CHANGES: dict[str, Change] = {
    "all cast to f16": cast(torch.float16, dtype="float16"),
    "all cast to bf16, the config says float32": cast(torch.bfloat16, dtype="float32"),
    "all cast to f64": cast(torch.float64, dtype="float64"),
    "all cast, dtype removed": cast(torch.float16, dtype=None),
    "half of them cast": cast(torch.float16, 2, dtype="float16"),
    "one cast": one_cast,
    "dtype in the config alone": config(dtype="float16"),
    "class lost": config(architectures=None),
    "class null": null("architectures"),
    "class empty": config(architectures=[]),
    "an Auto class": config(architectures=["AutoModelForSequenceClassification"]),
    "labels permuted": config(**PERMUTED),
    "labels renamed": config(id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1, "c": 2}),
    "labels permuted and class lost": both(config(**PERMUTED), config(architectures=None)),
    "labels permuted and class null": both(config(**PERMUTED), null("architectures")),
    "labels lost": config(id2label=None, label2id=None, num_labels=3),
    "problem type": config(problem_type="multi_label_classification"),
    "problem type and class lost": config(problem_type="regression", architectures=None),
    "head dropped": without_head(),
    "head dropped, class lost": without_head(architectures=None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_undeclared_changes_fail(name: str, source: Path, export: Path) -> None:
    CHANGES[name](export)
    report = verify_export(export, source=source, levels=LEVELS)
    assert not report.passed, lines(report)


@pytest.mark.parametrize("model", ["BertModel", "GPT2Model", "ModernBertModel"])
def test_a_dropped_head_with_the_class_of_the_base_fails(model: str, source: Path, export: Path) -> None:
    without_head(architectures=[model])(export)
    assert not verify_export(export, source=source, levels=LEVELS).passed


FILES = {
    "chat_template.jinja": "{{ messages }}",
    "additional_chat_templates/tool_use.jinja": "{{ messages }}",
    "generation_config.json": '{"eos_token_id": 7}',
    "modules.json": "[]",
    "adapter_config.json": '{"peft_type": "LORA"}',
    "pytorch_model.bin": "pickle",
    "model.fp16.safetensors": "weights",
    "model.onnx": "weights",
    "onnx/model.onnx": "weights",
    "tf_model.h5": "weights",
    "openvino_model.xml": "weights",
    "sentence_bert_config.json": "{}",
    "tokenizer.model": "vocabulary",
    "own.py": "print()",
    "notes.txt": "words",
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_differ_fail(name: str, source: Path, export: Path, tmp_path: Path) -> None:
    (export / name).parent.mkdir(exist_ok=True)
    (export / name).write_text(FILES[name])
    added = verify_export(export, source=source, levels=["bytes"])
    assert not added.passed
    assert f"{name} (added)" in lines(added)
    assert verify_export(export, source=source, levels=["bytes"], allow=["files"]).passed
    richer = shutil.copytree(source, tmp_path / "source")
    (richer / name).parent.mkdir(exist_ok=True)
    (richer / name).write_text(FILES[name] + " ")
    changed = verify_export(export, source=richer, levels=["bytes"])
    assert not changed.passed
    assert f"{name} (changed)" in lines(changed)
    (export / name).unlink()
    lost = verify_export(export, source=richer, levels=["bytes"])
    assert not lost.passed
    assert f"{name} (left out)" in lines(lost)


@pytest.mark.filterwarnings("ignore:.* is left out")
def test_a_linked_folder_fails_unless_it_is_the_sources(source: Path, export: Path, tmp_path: Path) -> None:
    for name in ("theirs", "others"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool_use.jinja").write_text(name)
    link = export / "additional_chat_templates"
    link.symlink_to("../others")
    (export / RECORD).write_text(json.dumps({"files": {link.name: "added"}}))
    added = verify_export(export, source=source, levels=["bytes"])
    assert not added.passed
    assert "additional_chat_templates (a link to a folder" in lines(added)
    assert verify_export(export, source=source, levels=["bytes"], allow=["files"]).passed
    richer = shutil.copytree(source, tmp_path / "source")
    (richer / link.name).symlink_to("../theirs")
    assert not verify_export(export, source=richer, levels=["bytes"]).passed
    link.unlink()
    link.symlink_to("../theirs")
    assert verify_export(export, source=richer, levels=["bytes"]).passed
    for folder in (export, richer):  # within: what it leads to is compared
        (folder / link.name).unlink()
        (folder / "own").mkdir()
        (folder / "own" / "a.jinja").write_text("a")
        (folder / link.name).symlink_to("own")
    assert verify_export(export, source=richer, levels=["bytes"]).passed


def test_a_declared_cast_says_what_is_compared_and_how_far(source: Path, tmp_path: Path) -> None:
    export = export_checkpoint(source, out=tmp_path / "half", dtype="float16").folder
    record = Record.read(export)
    assert (record.cast, dict(record.config)) == ("float16", {"dtype": "float16"})
    assert record.files == {"README.md": "left out"}
    report = verify_export(export, source=source, levels=[*LEVELS, "hf-forward"])
    assert report.passed, lines(report)
    assert "the source's, cast as declared" in lines(report)
    assert "the source cast to float16 is compared with the export; from the source in float32" in lines(
        report
    )
    (export / RECORD).unlink()
    undeclared = verify_export(export, source=source, levels=["bytes"])
    assert "not declared" in lines(undeclared)
    assert not undeclared.passed
    assert verify_export(export, source=source, levels=["bytes"], allow=["cast", "config", "files"]).passed


def test_a_record_that_declares_something_else_does_not_help(source: Path, tmp_path: Path) -> None:
    export = export_checkpoint(source, out=tmp_path / "half", dtype="float16").folder
    record = json.loads((export / RECORD).read_text())
    for key, value in (
        ("cast", "bfloat16"),
        ("config", {"dtype": "bfloat16"}),
        ("files", {"README.md": "added"}),
    ):
        (export / RECORD).write_text(json.dumps({**record, key: value}))
        assert not verify_export(export, source=source, levels=["bytes"]).passed, key
    (export / RECORD).write_text(json.dumps(record))
    path = export / "model.safetensors"
    tensors = load_file(path)
    tensors[min(tensors)] = tensors[min(tensors)].float()
    save_file(tensors, path, metadata={"format": "pt"})
    assert not verify_export(export, source=source, levels=["bytes"]).passed


@pytest.mark.parametrize("text", ['["a"]', "{", '{"cast": 3, "config": [], "files": "x", "not_cast": 1}'])
def test_a_damaged_record_declares_nothing(text: str, source: Path, export: Path) -> None:
    (export / RECORD).write_text(text)
    assert verify_export(export, source=source, levels=["bytes"]).passed
    config(architectures=None)(export)
    assert not verify_export(export, source=source, levels=["bytes"]).passed


def test_what_changes_nothing_declares_nothing(source: Path, export: Path) -> None:
    assert not (export / RECORD).exists()
    assert verify_export(export, source=source, levels=[*LEVELS, "hf-forward"]).passed


def test_a_config_written_otherwise_is_named_and_can_be_allowed(source: Path, export: Path) -> None:
    path = export / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=7))
    report = verify_export(export, source=source, levels=["bytes"])
    assert not report.passed
    assert "values equal, text differs" in lines(report)
    assert verify_export(export, source=source, levels=["bytes"], allow=["text"]).passed


def test_a_source_that_is_the_folder_itself_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    for folder in (source, tmp_path / "link"):
        with pytest.raises(InputError, match="itself"):
            verify_export(folder, source=source)
    with pytest.raises(InputError, match="cast, config, files, text"):
        verify_export(source, allow=["everything"])


def test_json_types_are_values(source: Path, export: Path) -> None:
    config(id2label={"0": "no", "1": "mid", "2": "yes"}, output_attentions=0)(export)
    report = verify_export(export, source=source, levels=["bytes"], allow=["text"])
    assert not report.passed
    assert "output_attentions" in lines(report)


def test_a_lost_declaration_is_a_difference(source: Path, tmp_path: Path) -> None:
    new = export_checkpoint(source, out=tmp_path / "new", head="seqcls", new_head=["a", "b"]).folder
    copy = shutil.copytree(new, tmp_path / "copy")
    assert verify_export(copy, source=new, levels=["bytes"]).passed
    (copy / RECORD).unlink()
    assert f"{RECORD} (left out)" in lines(verify_export(copy, source=new, levels=["bytes"]))
    (copy / RECORD).write_text('{"cast": ""}')
    assert f"{RECORD} (changed)" in lines(verify_export(copy, source=new, levels=["bytes"]))


@pytest.mark.parametrize(
    "one, other, far",
    [([1.0, 2.0], [1.0, 2.5], 0.5), ([math.inf, 1], [math.inf, 1], 0), ([math.nan], [math.nan], 0)],
)
def test_how_far_outputs_are_apart(one: list[float], other: list[float], far: float) -> None:
    assert largest_difference(torch.tensor(one), torch.tensor(other)) == far


@pytest.mark.parametrize("one, other", [([math.nan, 0], [1.0, 0]), ([math.inf, 0], [-math.inf, 0])])
def test_what_is_no_number_is_never_near(one: list[float], other: list[float]) -> None:
    assert not largest_difference(torch.tensor(one), torch.tensor(other)) < math.inf
