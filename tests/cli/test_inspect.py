"""`biject inspect` and `biject families`."""

from __future__ import annotations

import json
import subprocess
import sys

from biject.families import families


def edit_config(folder, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        config.pop(name, None) if value is None else config.update({name: value})
    (folder / "config.json").write_text(json.dumps(config))


def test_inspect_says_what_it_is(run, tiny) -> None:
    found = json.loads(run("inspect", tiny, "--json").out)
    assert found["model_type"] == "bert"
    assert found["head"] == "seqcls"
    assert found["hf_class"] == "BertForSequenceClassification"
    assert found["dtypes"] == {"F32": found["num_tensors"]}
    assert found["num_parameters"] == 6 * found["num_tensors"]
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
    assert "classifier.weight" in found["carried"]
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


def test_families_lists_every_cell(run) -> None:
    cells = json.loads(run("families", "--json").out)
    assert cells == {n: {h: head.hf_class for h, head in f.heads.items()} for n, f in families().items()}
    table = run("families").out
    assert all(name in table for name in families())
