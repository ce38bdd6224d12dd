"""`biject inspect` and `biject families`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from biject.cli import app
from biject.cli.inspect_plain import plain_form
from biject.families import families


def edit_config(folder, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        config.pop(name, None) if value is None else config.update({name: value})
    (folder / "config.json").write_text(json.dumps(config))


def test_inspect_says_what_it_is(run, tiny) -> None:
    import transformers

    found = json.loads(run("inspect", tiny, "--json").out)
    assert found["model_type"] == "bert"
    assert found["head"] == "seqcls"
    assert found["hf_class"] == "BertForSequenceClassification"
    assert found["dtypes"] == {"F32": found["num_tensors"]}
    config = transformers.AutoConfig.from_pretrained(tiny)
    theirs = transformers.BertForSequenceClassification(config)
    assert found["num_parameters"] == theirs.num_parameters()
    assert found["tokenizer_files"] == ["vocab.txt"]
    assert found["oddities"] == []
    assert found["usable"] is True


def test_inspect_shows_a_table(run, tiny) -> None:
    outcome = run("inspect", tiny)
    assert outcome.code == 0
    for words in (
        "seqcls: BertForSequenceClassification",
        "model.safetensors",
        "vocab.txt",
        "hidden_size 32",
    ):
        assert words in outcome.out


def test_inspect_names_what_is_odd(run, tiny) -> None:
    (tiny / "vocab.txt").unlink()
    (tiny / "tf_model.h5").write_bytes(b"")
    edit_config(tiny, spice="cumin")
    odd = " ".join(json.loads(run("inspect", tiny, "--json").out)["oddities"])
    for words in ("no tokenizer vocabulary", "tf_model.h5", "spice"):
        assert words in odd


def test_inspect_without_a_class_goes_by_the_tensors(run, tiny) -> None:
    edit_config(tiny, architectures=None)
    found = json.loads(run("inspect", tiny, "--json").out)
    assert found["head"] == "seqcls"
    assert any("names no class" in line for line in found["oddities"])


def test_inspect_says_when_the_class_is_not_computed(run, tiny) -> None:
    edit_config(tiny, architectures=["BertForMultipleChoice"])
    outcome = run("inspect", tiny, "--json")
    found = json.loads(outcome.out)
    assert found["head"] == "base"
    assert "classifier.weight" in found["passthrough"]
    assert "BertForMultipleChoice" in outcome.err


def test_inspect_still_describes_what_cannot_be_loaded(run, tiny) -> None:
    edit_config(tiny, model_type="perceiver")
    outcome = run("inspect", tiny, "--json")
    found = json.loads(outcome.out)
    assert outcome.code == 1
    assert found["usable"] is False
    assert found["num_parameters"] is None
    assert "perceiver" in found["problems"][0]
    assert "problem" in run("inspect", tiny).out


def test_inspect_names_a_missing_tensor(run, tiny) -> None:
    edit_config(tiny, num_hidden_layers=3)
    found = json.loads(run("inspect", tiny, "--json").out)
    assert "bert.encoder.layer.2.attention.self.query.weight" in found["problems"][0]


def test_inspect_loads_neither_torch_nor_the_hub(tiny) -> None:
    code = (
        "import sys; from biject.cli.main import main; code = main(sys.argv[1:])\n"
        "heavy = {'torch', 'huggingface_hub', 'transformers', 'numpy', 'safetensors'} & set(sys.modules)\n"
        "sys.exit(code or ', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, "inspect", str(tiny)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_the_plain_form_needs_no_parser(tiny, flags) -> None:
    code = (
        "import sys; from biject.cli.main import main; code = main(sys.argv[1:])\n"
        "sys.exit(code or ', '.join({'cyclopts', 'attrs'} & set(sys.modules)) or 0)"
    )
    command = [sys.executable, "-c", code, "inspect", str(tiny), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("fault", ["none", "odd", "unknown family", "no folder", "damaged"])
@pytest.mark.parametrize("flags", [["DIR"], ["DIR", "--json"], ["--json", "DIR"]], ids=" ".join)
def test_the_parser_and_the_plain_form_agree(run, capsys, tiny, fault, flags) -> None:
    if fault == "odd":
        edit_config(tiny, spice="cumin", architectures=["BertForMultipleChoice"])
    elif fault == "unknown family":
        edit_config(tiny, model_type="perceiver")
    elif fault == "damaged":
        (tiny / "model.safetensors").write_bytes(b"short")
    folder = tiny / "nowhere" if fault == "no folder" else tiny
    arguments = ["inspect", *(str(folder) if flag == "DIR" else flag for flag in flags)]
    assert plain_form(arguments) is not None
    plain = run(*arguments)
    code = app.run(arguments)
    parsed = capsys.readouterr()
    assert (plain.code, plain.out, plain.err) == (code, parsed.out, parsed.err)
    assert plain.code == {"none": 0, "odd": 0, "unknown family": 1}.get(fault, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect"],
        ["inspect", "--json"],
        ["inspect", ""],
        ["inspect", "-x"],
        ["inspect", "DIR", "--js"],
        ["inspect", "DIR", "OTHER"],
        ["inspect", "DIR", "--json", "OTHER"],
        ["inspect", "--json", "--json"],
        ["inspect", "--", "DIR"],
        ["inspect", "DIR", "--json=true"],
        ["families", "DIR"],
        [],
    ],
)
def test_everything_else_goes_to_the_parser(arguments) -> None:
    assert plain_form(arguments) is None


def test_inspect_shows_a_folders_name_as_it_is(run, tiny, monkeypatch) -> None:
    monkeypatch.chdir(tiny.parent)
    tiny.rename("[bold]tiny :smile:")
    assert run("inspect", "[bold]tiny :smile:").out.startswith("[bold]tiny :smile: ")


@pytest.mark.parametrize("size, words", [(100, "'far' (id 5000)"), (20_000, "most are never used")])
def test_inspect_finds_a_tokenizer_that_does_not_fit(run, tiny, size, words) -> None:
    from tokenizers import Tokenizer, models

    vocab = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "far": 5000}
    Tokenizer(models.WordPiece(vocab, unk_token="[UNK]")).save(str(tiny / "tokenizer.json"))
    edit_config(tiny, vocab_size=size)
    assert any(words in line for line in json.loads(run("inspect", tiny, "--json").out)["oddities"])


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "not JSON"),
        ('{"model": {"vocab": {"a": 0, "a": 1}}}', "twice"),
        ('{"model": {}}', "vocab"),
        ('{"model": {"type": "WordPiece", "vocab": {"a": "b"}}}', "cannot be built"),
    ],
)
def test_inspect_finds_a_damaged_tokenizer(run, tiny, text, words) -> None:
    (tiny / "tokenizer.json").write_text(text)
    (line,) = json.loads(run("inspect", tiny, "--json").out)["oddities"]
    assert line.startswith("the tokenizer cannot be used: ")
    assert words in line


def test_families_lists_every_cell(run) -> None:
    cells = json.loads(run("families", "--json").out)
    assert cells == {n: {h: head.hf_class for h, head in f.heads.items()} for n, f in families().items()}
    table = run("families").out
    assert all(name in table for name in families())
