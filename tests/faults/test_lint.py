"""The linter: silent on every good folder, real ones included; finds each planted defect."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from biject.checkpoint.source import open_source
from biject.checkpoint.writer import write_folder
from biject.cli.main import main
from biject.errors import BijectWarning
from biject.families import HEADS, families, text_families
from biject.pretrained import load
from biject.save import save_model
from biject.verify import verify_export
from biject.verify.hf import quiet
from biject.verify.lint import lint
from biject.verify.lint.values import looks_normal
from biject.verify.reference import AUTO_CLASSES, make_reference, reference_config
from faults.plant import Tensors, edit_config, edit_tensors

pytestmark = pytest.mark.attack("folders that do not load elsewhere (linter)")

REAL = Path(__file__).resolve().parents[2] / ".cache" / "real"
LABELS = {"id2label": {0: "no", 1: "yes", 2: "maybe"}, "label2id": {"no": 0, "yes": 1, "maybe": 2}}
CELLS = [(name, head) for name in families() for head in HEADS if head in families()[name].heads]


def codes(folder: Path) -> list[str]:
    return [finding.code for finding in lint(open_source(folder))]


def made(name: str, head: str, folder: Path, **overrides: Any) -> Path:
    labels = LABELS if head in ("seqcls", "tokcls") else {}
    return make_reference(name, head, folder, overrides={**labels, **overrides})


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("bert", "seqcls", tmp_path_factory.mktemp("lint") / "good")


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("bert", "mlm", tmp_path_factory.mktemp("lint") / "masked")


@pytest.mark.parametrize(("name", "head"), CELLS)
def test_silent_on_good_exports(tmp_path: Path, name: str, head: str) -> None:
    source = made(name, head, tmp_path / "source")
    assert codes(source) == []
    model = load(source)
    model.save_pretrained(tmp_path / "export")
    assert codes(tmp_path / "export") == []
    save_model(model, tmp_path / "half", dtype=torch.bfloat16, max_shard_bytes=60_000)
    assert codes(tmp_path / "half") == []


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "bert-tiny-mlm"])
def test_silent_on_real_ones(name: str) -> None:
    if not (REAL / name).is_dir():
        pytest.skip("run scripts/fetch_real.py")
    assert codes(REAL / name) == []


def test_a_real_tokenizer_that_hf_does_not_find() -> None:
    if not (REAL / "rxnmapper-albert").is_dir():
        pytest.skip("run scripts/fetch_real.py")
    assert codes(REAL / "rxnmapper-albert") == ["tokenizer-not-found"]


@pytest.mark.parametrize("name", list(text_families()))
def test_a_model_that_was_never_trained(tmp_path: Path, name: str) -> None:
    """What transformers makes without a checkpoint: all of it fresh."""
    import transformers

    with quiet():
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(name, **{**reference_config(name), **LABELS})
        getattr(transformers, AUTO_CLASSES["seqcls"]).from_config(config).save_pretrained(tmp_path)
    assert {"fresh-head", "fresh-layers", "no-tokenizer"} <= set(codes(tmp_path))


@pytest.mark.parametrize("steps", [0, 3])
def test_a_head_that_was_trained_for_a_moment_is_not_fresh(good: Path, tmp_path: Path, steps: int) -> None:
    import transformers

    with quiet():
        torch.manual_seed(0)
        model = transformers.BertForTokenClassification.from_pretrained(good)
        model.classifier.weight.data.normal_(0, 0.02)
        model.classifier.bias.data.zero_()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        for _ in range(steps):
            ids, labels = torch.randint(5, 99, (2, 9)), torch.randint(0, 3, (2, 9))
            model(input_ids=ids, labels=labels).loss.backward()
            optimizer.step()
        model.save_pretrained(tmp_path)
    shutil.copyfile(good / "tokenizer.json", tmp_path / "tokenizer.json")
    assert codes(tmp_path) == ([] if steps else ["fresh-head"])


def tensors(change: Callable[[Tensors], object]) -> Callable[[Path], None]:
    return lambda folder: edit_tensors(folder, lambda held: void(change(held)))


def config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda folder: edit_config(folder, lambda held: void(change(held)))


def void(_: object) -> None:
    return None


def rename(held: Tensors, change: Callable[[str], str]) -> None:
    for name in list(held):
        held[change(name)] = held.pop(name)


def lora(held: Tensors) -> None:
    held["bert.encoder.layer.0.attention.self.query.lora_A.weight"] = torch.randn(4, 32)


def torch_default(held: Tensors) -> None:
    linear = torch.nn.Linear(32, 3)
    held["classifier.weight"], held["classifier.bias"] = linear.weight.data, linear.bias.data


def hf_default(held: Tensors) -> None:
    torch.manual_seed(1)
    held["classifier.weight"].normal_(0, 0.02)
    held["classifier.bias"].zero_()


def reshard(folder: Path) -> dict[str, Any]:
    source = open_source(folder)
    held: dict[str, Tensor] = {}
    edit_tensors(folder, held.update)
    write_folder(folder / "cut", tensors=held, like=None, files={}, max_shard_bytes=40_000)
    for name in source.weight_files:
        (folder / name).unlink()
    for path in (folder / "cut").iterdir():
        path.rename(folder / path.name)
    (folder / "cut").rmdir()
    return json.loads((folder / "model.safetensors.index.json").read_text())


def tokenizer(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        value = json.loads((folder / "tokenizer.json").read_text())
        change(value)
        (folder / "tokenizer.json").write_text(json.dumps(value))

    return edit


def settings(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def written(name: str, text: str | bytes) -> Callable[[Path], None]:
    data = text if isinstance(text, bytes) else text.encode()
    return lambda folder: void((folder / name).write_bytes(data))


def generation(**values: Any) -> Callable[[Path], None]:
    return written("generation_config.json", json.dumps(values))


def both(*plants: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda folder: void([plant(folder) for plant in plants])


Q = "bert.encoder.layer.0.attention.self.query.weight"
DEFECTS: list[tuple[str, Callable[[Path], None]]] = [
    ("wrapper-prefix", tensors(lambda t: rename(t, lambda n: f"module.{n}"))),
    ("wrapper-prefix", tensors(lambda t: rename(t, lambda n: f"_orig_mod.{n}"))),
    ("wrapper-prefix", tensors(lambda t: rename(t, lambda n: n.replace("bert.", "bert._orig_mod.")))),
    ("wrapper-prefix", tensors(lambda t: rename(t, lambda n: f"base_model.model.{n}"))),
    ("wrapper-prefix", tensors(lambda t: rename(t, lambda n: f"model.{n}"))),
    ("adapter-keys", tensors(lora)),
    ("adapter-files", lambda folder: void((folder / "adapter_config.json").write_text("{}"))),
    ("missing-tensors", tensors(lambda t: t.pop(Q))),
    ("unknown-tensors", tensors(lambda t: t.update({"bert.extra": torch.ones(2)}))),
    ("unknown-architectures", config(lambda c: c.update(architectures=["BertForNothing"]))),
    ("class-not-computed", config(lambda c: c.update(architectures=["BertForMultipleChoice"]))),
    ("no-architectures", config(lambda c: c.pop("architectures"))),
    ("dtype-differs", config(lambda c: c.update(dtype="float16"))),
    ("mixed-dtypes", tensors(lambda t: t.update({Q: t[Q].half()}))),
    ("vocab-size-differs", config(lambda c: c.update(vocab_size=120))),
    ("id-beyond-vocabulary", config(lambda c: c.update(eos_token_id=99))),
    ("id-beyond-vocabulary", config(lambda c: c.update(mask_token_id=1000))),
    ("labels-lost", config(lambda c: (c.pop("id2label"), c.pop("label2id", 0), c.update(num_labels=3)))),
    ("labels-lost", config(lambda c: c.update(id2label={str(i): f"LABEL_{i}" for i in range(3)}))),
    ("label-count", config(lambda c: (c.pop("id2label"), c.pop("label2id", 0)))),
    ("label-maps-disagree", config(lambda c: c.update(label2id={"no": 1, "yes": 0, "maybe": 2}))),
    ("label-maps-disagree", config(lambda c: c.update(id2label={"0": "a", "1": "a", "2": "b"}))),
    ("no-tokenizer", lambda folder: (folder / "tokenizer.json").unlink()),
    ("tokenizer-unreadable", lambda folder: void((folder / "tokenizer.json").write_text("{"))),
    ("tokenizer-too-large", tokenizer(lambda v: v["model"]["vocab"].update(beyond=99))),
    ("tokenizer-too-large", lambda f: void((f / "added_tokens.json").write_text('{"<new>": 99}'))),
    ("tokenizer-not-found", lambda f: (f / "tokenizer.json").rename(f / "spiece.model")),
    ("pad-id-differs", config(lambda c: c.update(pad_token_id=7))),
    ("not-finite", tensors(lambda t: t[Q].view(-1)[3:4].fill_(float("nan")))),
    ("not-finite", tensors(lambda t: t[Q].view(-1)[3:4].fill_(float("-inf")))),
    ("huge-values", tensors(lambda t: t[Q].mul_(1e6))),
    ("denormal-values", tensors(lambda t: t[Q].mul_(1e-39))),
    ("constant-matrix", tensors(lambda t: t[Q].zero_())),
    ("fresh-head", tensors(hf_default)),
    ("fresh-head", tensors(torch_default)),
    ("zero-bias", tensors(lambda t: t["classifier.bias"].zero_())),
    ("head-not-named", config(lambda c: c.update(architectures=["BertModel"]))),
    ("tokenizer-too-long", settings(model_max_length=1000)),
    ("tokenizer-too-long", settings(model_max_length=65)),
    ("generation-id-beyond-vocabulary", generation(eos_token_id=99)),
    ("generation-id-beyond-vocabulary", generation(eos_token_id=[2, 5000])),
    ("generation-id-beyond-vocabulary", generation(pad_token_id=-1)),
    ("generation-id-differs", both(config(lambda c: c.update(eos_token_id=3)), generation(eos_token_id=7))),
    ("generation-id-differs", both(settings(eos_token="[SEP]"), generation(eos_token_id=[7, 8]))),
    ("generation-config-unreadable", written("generation_config.json", "{")),
    ("generation-config-unreadable", written("generation_config.json", "[]")),
    ("generation-config-unreadable", written("generation_config.json", b"\xff\xfe")),
    ("generation-config-unreadable", generation(eos_token_id="</s>")),
    ("chat-template-unreadable", written("chat_template.jinja", "{% for message in %}")),
    ("chat-template-unreadable", written("chat_template.jinja", b"\xff{{")),
    ("chat-template-unreadable", written("chat_template.jinja", "{{ messages")),
    ("chat-template-unreadable", settings(chat_template="{% if %}")),
    ("chat-template-unreadable", settings(chat_template=[{"name": "default", "template": "{% endfor %}"}])),
    ("chat-template-unreadable", settings(chat_template=7)),
]


@pytest.mark.parametrize(("code", "plant"), DEFECTS, ids=[f"{c}-{i}" for i, (c, _) in enumerate(DEFECTS)])
def test_finds_a_planted_defect(
    good: Path, tmp_path: Path, code: str, plant: Callable[[Path], object]
) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "bad"))
    plant(folder)
    if code == "tokenizer-not-found":  # no class is named either, so that the family's own is looked for
        (folder / "tokenizer_config.json").write_text("{}")
    found = [finding for finding in lint(open_source(folder)) if finding.code == code]
    assert found, codes(folder)
    assert all(finding.where and finding.meaning and finding.advice for finding in found)
    assert found[0].severity in ("error", "warning")


def test_there_are_enough_kinds_of_defects() -> None:
    assert len({code for code, _ in DEFECTS}) >= 12


def test_twins_with_different_values(masked: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(masked, tmp_path / "bad"))
    name, table = "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"
    edit_tensors(folder, lambda held: void(held.update({name: held[table].clone()})))
    assert codes(folder) == ["twin-stored-twice"]
    edit_tensors(folder, lambda held: void(held[name].add_(1)))
    assert codes(folder) == ["twins-differ"]


def test_an_untied_output_matrix_that_is_missing(masked: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(masked, tmp_path / "bad"))
    edit_config(folder, lambda held: void(held.update(tie_word_embeddings=False)))
    assert codes(folder) == ["missing-tensors"]


def test_a_token_table_under_its_twins_name_only(masked: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(masked, tmp_path / "bad"))
    table = "bert.embeddings.word_embeddings.weight"
    edit_tensors(folder, lambda held: void(held.update({"cls.predictions.decoder.weight": held.pop(table)})))
    assert "twin-missing" in codes(folder)


@pytest.mark.parametrize("legacy", [True, False])
def test_debertas_other_head(tmp_path: Path, legacy: bool) -> None:
    folder = made("deberta-v2", "mlm", tmp_path / "m", legacy=legacy)
    edit_config(folder, lambda held: void(held.update(legacy=not legacy)))
    assert codes(folder) == ["legacy-differs"]


def test_a_fresh_pooler_is_a_warning(tmp_path: Path) -> None:
    folder = made("bert", "base", tmp_path / "m")

    def plant(held: Tensors) -> None:
        torch.manual_seed(0)
        held["pooler.dense.weight"].normal_(0, 0.02)
        held["pooler.dense.bias"].zero_()

    edit_tensors(folder, plant)
    assert codes(folder) == ["fresh-pooler"]
    report = verify_export(folder, levels=["lint"])
    assert report.passed
    assert any(line.startswith("WARN lint fresh-pooler pooler.dense.weight") for line in report.lines())


def test_a_new_head_that_the_export_records_is_a_warning(good: Path, tmp_path: Path) -> None:
    with pytest.warns(BijectWarning, match="randomly initialised"):
        model = load(good, head="tokcls", new_head={"labels": ["B", "I", "O"]})
    model.save_pretrained(tmp_path / "new")
    findings = lint(open_source(tmp_path / "new"))
    assert [(finding.code, finding.severity) for finding in findings] == [("fresh-head", "warning")]


@pytest.mark.parametrize("defect", ["ghost-index-entry", "shard-missing", "tensor-not-indexed"])
def test_an_index_that_lies(good: Path, tmp_path: Path, capsys, defect: str) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "bad"))
    index = reshard(folder)
    assert codes(folder) == []
    name = next(iter(index["weight_map"]))
    if defect == "shard-missing":
        (folder / index["weight_map"][name]).unlink()
    elif defect == "tensor-not-indexed":
        del index["weight_map"][name]
    else:
        index["weight_map"]["ghost"] = index["weight_map"][name]
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    report = verify_export(folder)
    assert not report.passed
    assert [check.name for check in report.level("lint").checks] == [defect]
    assert main(["verify-export", str(folder)]) == 1
    assert f"FAIL lint {defect} " in capsys.readouterr().out


@pytest.mark.parametrize("model_type", [None, "", 3, "no-such-family"])
def test_a_folder_without_a_family_is_a_finding(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model_type: object
) -> None:
    """The linter's, and not wrong usage; a level that needs the family still cannot be run."""
    folder = Path(shutil.copytree(good, tmp_path / "bad"))
    changes = (
        (lambda c: c.pop("model_type")) if model_type is None else (lambda c: c.update(model_type=model_type))
    )
    edit_config(folder, lambda held: void(changes(held)))
    for options in ([], ["--level", "lint"]):
        assert main(["verify-export", str(folder), *options]) == 1
        out = capsys.readouterr().out
        assert "FAIL lint unknown-family" in out
        assert "VERDICT FAIL" in out
    assert main(["verify-export", str(folder), "--level", "reload"]) == 2


def test_good_generation_files_are_no_finding(good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "good"))
    edit_config(folder, lambda held: void(held.update(eos_token_id=3)))
    generation(eos_token_id=[3, 7], pad_token_id=0, max_length=20, bos_token_id=None)(folder)
    settings(model_max_length=10**30)(folder)
    written(
        "chat_template.jinja",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    )(folder)
    assert codes(folder) == []


def test_json_holds_the_finding(good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "bad"))
    edit_tensors(folder, hf_default)
    report = json.loads(verify_export(folder, levels=["lint"]).to_json())
    finding = report["levels"][0]["checks"][0]["finding"]
    assert report["passed"] is False
    assert (finding["code"], finding["severity"]) == ("fresh-head", "error")
    assert finding["where"] == "classifier.weight, classifier.bias"


def test_by_default_the_linter_runs_only_without_a_source(good: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(good, tmp_path / "copy")
    assert "lint" in [level.name for level in verify_export(good).levels]
    assert "lint" not in [level.name for level in verify_export(copy, source=good, levels=None).levels]


@pytest.mark.parametrize(("scale", "shift", "fresh"), [(1, 0, True), (1.03, 0, False), (1, 0.001, False)])
def test_what_counts_as_freshly_drawn(scale: float, shift: float, fresh: bool) -> None:
    torch.manual_seed(3)
    assert looks_normal(torch.randn(200, 200) * 0.02 * scale + shift, 0.02) is fresh


def test_fresh_draws_are_recognised() -> None:
    torch.manual_seed(0)
    draws = [looks_normal(torch.randn(3, 64) * 0.02, 0.02) for _ in range(300)]
    assert sum(draws) >= 294  # four standard errors; kurtosis of 192 numbers has a heavy tail
    assert not any(looks_normal(torch.empty(20, 64).uniform_(-0.0346, 0.0346), 0.02) for _ in range(20))


def test_it_needs_no_transformers(good: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "transformers.utils", None)
    assert verify_export(good, levels=["lint"]).passed
