"""`biject finetune --preview N`: what is learned, for every task; nothing is trained and nothing written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from biject.cli.preview import print_preview, printable
from biject.data.preview import Preview, Token
from biject.runs.preview import Previewed
from biject.verify.reference import make_reference


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A tiny BERT without a head, and a name for the token that ends texts."""
    folder = make_reference("bert", "base", tmp_path_factory.mktemp("base") / "model")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**settings, "eos_token": "[SEP]"}))
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize("task", ["seqcls", "tokcls", "qa", "mlm"])
def test_every_task(run, base, write_data, tmp_path, here, task) -> None:
    data = write_data(tmp_path / "data", task)
    outcome = run("finetune", "--model", base, "--data", data, "--task", task, "--preview", 2)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].startswith("DATA train: ")
    samples = [line for line in lines if line.startswith("SAMPLE ")]
    assert len(samples) == 2
    assert f"{data.name}, line " in samples[0]
    assert "[CLS]" in outcome.out
    if task == "seqcls":
        assert samples[0].endswith(("label negative", "label positive"))
        assert "⟦" not in outcome.out
    else:
        assert " learned" in samples[0]
        assert "TOKENS ⟦learned⟧ read" in lines
    assert list(here.iterdir()) == []


def test_conversations(run, base, tmp_path, here) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "the good"}, {"role": "assistant", "content": "model"}]}
    ] * 4
    data = tmp_path / "chat.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("finetune", "--model", base, "--data", data, "--task", "causal", "--preview", 1)
    outcome = run(*flags)
    assert outcome.code == 0, outcome.err
    assert "DATA train: conversations as ChatML" in outcome.out
    assert "⟦ model [SEP]⟧" in outcome.out
    found = json.loads(run(*flags, "--json").out)
    (sample,) = found["samples"]
    tokens = [text.strip() for text, own in zip(sample["tokens"], sample["learned"], strict=True) if own]
    assert tokens == ["model", "[SEP]"]
    assert list(here.iterdir()) == []


def test_a_recipe_with_blocks_of_paragraphs(run, base, tmp_path, here) -> None:
    (tmp_path / "book.txt").write_text("the model\nis good\n\nparis is lost\n" * 8)
    (tmp_path / "run.toml").write_text(
        f'model = "{base}"\ndata = "{tmp_path / "book.txt"}"\ntask = "causal"\npacking = true\n'
        'max_length = 16\nsample_by = "paragraph"\nvalidation = 0\n'
    )
    outcome = run("finetune", "--recipe", tmp_path / "run.toml", "--preview", 1)
    assert outcome.code == 0, outcome.err
    assert "blocks of 16 tokens" in outcome.out
    assert "\n┄ " in outcome.out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--preview", 0), "--preview: expected at least 1 sample, found 0"),
        ((), "finetune needs --out DIR, the folder of the run, or --preview N"),
        (("--preview", 1, "--text-column", "nope"), "no column 'nope'"),
    ],
)
def test_what_is_refused(run, base, write_data, tmp_path, here, flags, says) -> None:
    data = write_data(tmp_path / "data", "seqcls")
    outcome = run("finetune", "--model", base, "--data", data, "--task", "seqcls", *flags)
    assert outcome.code == 2
    assert says in outcome.err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("setting", ["packing = true", "pieces = false", 'messages_column = "x"'])
def test_settings_of_causal_models_alone(run, base, write_data, tmp_path, here, setting) -> None:
    (tmp_path / "run.toml").write_text(setting + "\n")
    data = write_data(tmp_path / "data", "seqcls")
    outcome = run(
        "finetune", "--recipe", tmp_path / "run.toml", "--model", base, "--data", data, "--task", "seqcls",
        "--preview", 1,
    )  # fmt: skip
    assert outcome.code == 2
    assert f"{setting.split()[0]} has no meaning for the task seqcls" in outcome.err


def test_the_task_is_the_heads_own(run, base, write_data, tmp_path, here) -> None:
    headed = make_reference("bert", "mlm", tmp_path / "mlm")
    data = write_data(tmp_path / "data", "mlm")
    outcome = run("finetune", "--model", headed, "--data", data, "--preview", 1)
    assert outcome.code == 0, outcome.err
    assert "→" in outcome.out
    without = run("finetune", "--model", base, "--data", data, "--preview", 1)
    assert without.code == 2
    assert "finetune needs --task" in without.err
    assert "has the head `base`" in without.err


def test_an_encoder_cannot_be_trained_so(run, base, tmp_path, here) -> None:
    (tmp_path / "rows.txt").write_text("the model is good\n" * 8)
    outcome = run(
        "finetune",
        "--model",
        base,
        "--data",
        tmp_path / "rows.txt",
        "--task",
        "causal",
        "--out",
        here / "run",
    )
    assert outcome.code == 2
    assert "causal" in outcome.err
    assert list(here.iterdir()) == []


def test_the_chat_template_goes_with_the_model(run, base, write_data, tmp_path, monkeypatch) -> None:
    """Whoever asks the model later has to write prompts as it was trained on them."""
    from biject.runs import finetune

    def prepared(recipe):
        return replace(prepare(recipe), extra={"chat_template.jinja": b"{{ messages }}"})

    prepare = finetune.prepare
    monkeypatch.setattr(finetune, "prepare", prepared)
    data, out = write_data(tmp_path / "data", "seqcls"), tmp_path / "run"
    flags = ("--task", "seqcls", "--out", out, "--epochs", 1, "--checkpoint-every", 1)
    run("finetune", "--model", base, "--data", data, *flags)
    for place in (out / "model", *(out / "checkpoints").iterdir()):
        assert (place / "chat_template.jinja").read_bytes() == b"{{ messages }}"


def test_colours_on_a_terminal(monkeypatch, capsys) -> None:
    tokens = (Token(id=1, text="the", learned=False), Token(id=2, text=" fox", learned=True, label="B"))
    found = Previewed(lines=(), samples=(("a.csv, line 2", Preview(tokens=tokens)),))
    monkeypatch.setattr(
        "biject.cli.preview.stdout", lambda: Console(force_terminal=True, color_system="standard", width=80)
    )
    print_preview(found)
    out = capsys.readouterr().out
    assert "\x1b[1;32m fox\x1b[0m" in out
    assert "⟦" not in out
    monkeypatch.setattr(
        "biject.cli.preview.stdout", lambda: Console(force_terminal=True, color_system=None, width=80)
    )
    print_preview(found)
    assert "the⟦ fox⟧→B" in capsys.readouterr().out


def test_data_move_no_cursor() -> None:
    assert printable("a\x1b[2J\r\n\tb\u202e é") == "a\\x1b[2J\\r↵\n\tb\\u202e é"
