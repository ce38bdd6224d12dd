"""`biject finetune`: all tasks end to end, reloaded in HF; recipes, run folder, `export --checkpoint`."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from biject.pretrained import load

QUICK = ("--epochs", 2, "--batch-size", 8, "--lr", "3e-3")
HF_CLASS = {
    "seqcls": "BertForSequenceClassification",
    "tokcls": "BertForTokenClassification",
    "qa": "BertForQuestionAnswering",
    "mlm": "BertForMaskedLM",
}


pytestmark = pytest.mark.usefixtures("one_thread")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("task", HF_CLASS)
def test_every_task_end_to_end(run, base, write_data, tmp_path, task) -> None:
    import transformers

    data = write_data(tmp_path, task)
    out = tmp_path / "run"
    outcome = run(
        "finetune", "--model", base, "--data", data, "--task", task, "--out", out, *QUICK, "--verbose"
    )
    assert outcome.code == 0, outcome.err + outcome.out
    lines = outcome.out.splitlines()
    assert any(line.startswith("HEAD new, random at first: head.") for line in lines)
    assert f"\nPASS reload transformers loads it as {HF_CLASS[task]}" in outcome.out
    assert any(line.startswith("PASS trained ") and "max abs diff = 0" in line for line in lines)
    assert lines[-3].startswith("VERDICT PASS")
    assert lines[-1].startswith("BEST ")
    assert {path.name for path in out.iterdir()} == {
        "model", "events.jsonl", "insights.json", "verify.json", "run.toml", "report.html",
    }  # fmt: skip
    theirs = getattr(transformers, HF_CLASS[task]).from_pretrained(out / "model").eval()
    ours = load(out / "model")
    encoded = transformers.AutoTokenizer.from_pretrained(out / "model")(
        ["the model is good", "paris is lost again and again"], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        a, b = ours(**encoded), theirs(**encoded)
    for name in ("start_logits", "end_logits") if task == "qa" else ("logits",):
        assert torch.equal(a[name], b[name])
    assert json.loads((out / "verify.json").read_text())["passed"] is True
    assert "biject.json" in {path.name for path in (out / "model").iterdir()}
    assert "<svg" in (out / "report.html").read_text()


def test_labels_are_those_of_the_data(run, base, write_data, tmp_path) -> None:
    out = tmp_path / "run"
    data = write_data(tmp_path, "seqcls", count=80)
    assert (
        run("finetune", "--model", base, "--data", data, "--task", "seqcls", "--out", out, *QUICK).code == 0
    )
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    assert config["problem_type"] == "single_label_classification"
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert (events[0]["event"], events[-1]["event"]) == ("start", "end")
    steps = [event for event in events if event["event"] == "step"]
    assert len(steps) == 18
    assert steps[-1]["loss"] < steps[0]["loss"]
    last = [event for event in events if event["event"] != "checkpoint"][-2]  # one follows a best evaluation
    assert last["event"] == "evaluation"
    assert {"loss", "accuracy", "f1_macro"} <= set(last)


def test_the_written_recipe_repeats_the_run(run, base, write_data, tmp_path) -> None:
    data = write_data(tmp_path, "seqcls")
    first, second = tmp_path / "first", tmp_path / "second"
    assert (
        run("finetune", "--model", base, "--data", data, "--task", "seqcls", "--out", first, *QUICK).code == 0
    )
    assert run("finetune", "--recipe", first / "run.toml", "--out", second, "--json").code == 0
    assert sha256(first / "model/model.safetensors") == sha256(second / "model/model.safetensors")
    assert tomllib.loads((first / "run.toml").read_text()) == tomllib.loads((second / "run.toml").read_text())


def test_a_second_run_goes_on_with_the_first_ones_head(run, base, write_data, tmp_path) -> None:
    data = write_data(tmp_path, "seqcls")
    common = ("--data", data, "--task", "seqcls", *QUICK)
    assert run("finetune", "--model", base, "--out", tmp_path / "one", *common).code == 0
    again = run("finetune", "--model", tmp_path / "one/model", "--out", tmp_path / "two", *common)
    assert again.code == 0
    assert "HEAD the checkpoint's own" in again.out
    other = tmp_path / "other.csv"
    other.write_text("text,label\n" + "".join(f"a good film,{name}\n" for name in ("red", "blue") * 9))
    wrong = run(
        "finetune", "--model", tmp_path / "one/model", "--out", tmp_path / "three", "--data", other,
        "--task", "seqcls",
    )  # fmt: skip
    assert wrong.code == 2
    assert "new_head = true" in wrong.err
    assert not (tmp_path / "three").exists()


def test_a_recipe_with_everything(run, base, write_data, tmp_path) -> None:
    train, held = write_data(tmp_path / "a", "seqcls"), write_data(tmp_path / "b", "seqcls", count=12)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'model = "{base}"\ndata = "{train}"\neval_data = "{held}"\ntask = "seqcls"\ndtype = "bfloat16"\n'
        '[train]\nmax_tokens = 64\naccumulate = 2\nepochs = 2\nlr = 1e-3\nschedule = "cosine"\nwarmup = 0.1\n'
        'freeze = ["embed"]\nlayer_decay = 0.9\nclip_norm = "none"\nmetric = "accuracy"\npatience = 3\n'
        "gradient_checkpointing = false\nevaluate_every = 2\n"
    )
    outcome = run("finetune", "--recipe", recipe, "--out", tmp_path / "run", "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["passed"]
    assert "largest accuracy" in found["best"]
    assert load(tmp_path / "run/model").file_dtype == torch.bfloat16
    assert json.loads((tmp_path / "run/model/config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("modle = 'x'", "nearest: `model`"),
        ("batch_size = 3", "it is called `train.batch_size`"),
        ("[train]\nlearning_rate = 3", "no `train.learning_rate`"),
        ("[train]\nlr = 'fast'", "Expected `float`, got `str` - at `train.lr`"),
        ("[train]\nlr = -1.0", "`lr` should be positive"),
        ("task = 'cooking'", "seqcls, tokcls, qa, mlm"),
        ("task = ", "no recipe in TOML"),
        ("[train]\nmetric = 'beauty'", "'beauty' is not computed"),
        ("[train]\nfreeze = ['nothing']", "no parameter is called 'nothing'"),
        ("max_length = 100000", "take at most"),
    ],
)
def test_recipes_that_cannot_be_used(run, base, write_data, tmp_path, text, says) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    given = {"--model": base, "--data": write_data(tmp_path, "seqcls")}
    if "task" not in text:
        given["--task"] = "seqcls"
    flags = [part for pair in given.items() for part in pair]
    outcome = run("finetune", "--recipe", recipe, "--out", tmp_path / "run", *flags)
    assert outcome.code == 2
    assert says in outcome.err
    assert [line.startswith("biject: error: ") for line in outcome.err.splitlines()].count(True) == 1
    assert not (tmp_path / "run").exists()


def test_the_best_state_is_what_the_model_holds(run, base, write_data, tmp_path) -> None:
    """What is learned makes it worse on rows with swapped labels: the best is not the last."""
    data, swapped = write_data(tmp_path, "seqcls", count=64), tmp_path / "swapped.csv"
    rows = [line.rsplit(",", 1) for line in data.read_text().splitlines()[1:]]
    one, other = sorted({label for _, label in rows})
    swapped.write_text(
        "text,label\n" + "".join(f"{text},{other if label == one else one}\n" for text, label in rows)
    )
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        "[train]\nevaluate_every = 1\ncheckpoint_every = 20\nmax_steps = 10\nlr = 0.003\n"
        'schedule = "constant"\nkeep = 0\n'
    )
    out = tmp_path / "run"
    outcome = run(
        "finetune",
        "--recipe",
        recipe,
        "--model",
        base,
        "--data",
        data,
        "--eval-data",
        swapped,
        "--task",
        "seqcls",
        "--out",
        out,
        "--json",
    )
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    best = found["fit"]["best_step"]
    assert best < 10
    assert found["best"].startswith(f"step {best} of 10, by the smallest loss")
    state = out / "checkpoints" / f"step-{best:06d}" / "model.safetensors"
    assert sha256(state) == sha256(out / "model/model.safetensors")
    assert min(entry["loss"] for entry in found["fit"]["history"]) == found["fit"]["best_value"]


def test_without_checkpoints_a_complete_run_keeps_its_model_alone(run, base, write_data, tmp_path) -> None:
    data, out = write_data(tmp_path, "seqcls"), tmp_path / "run"
    flags = ("--model", base, "--data", data, "--task", "seqcls", *QUICK)
    assert run("finetune", "--out", out, *flags).code == 0
    assert not (out / "checkpoints").exists()
    again = run("finetune", "--out", out, *flags, "--resume")
    assert again.code == 2
    assert "is complete" in again.err
    assert "checkpoint_every is 0" in again.err


def test_exports_of_runs_and_checkpoints(run, base, write_data, tmp_path) -> None:
    data, out = write_data(tmp_path, "seqcls"), tmp_path / "run"
    flags = ("--data", data, "--task", "seqcls", *QUICK, "--checkpoint-every", 3)
    assert run("finetune", "--model", base, "--out", out, *flags).code == 0
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert run("export", "--checkpoint", out, "--out", whole).code == 0
    assert sha256(whole / "model.safetensors") == sha256(out / "model/model.safetensors")
    step = sorted((out / "checkpoints").iterdir())[0]
    outcome = run("export", "--checkpoint", step, "--out", part)
    assert outcome.code == 0
    assert "left out: trainer_state.json" in outcome.out
    assert not list(part.glob("trainer_state*"))
    assert run("verify-export", part, "--level", "reload,forward").code == 0
    wrong = run("export", "--checkpoint", tmp_path, "--out", tmp_path / "no")
    assert wrong.code == 2
    assert "neither a training run's folder nor one of its checkpoints" in wrong.err


def test_resuming_with_another_recipe_is_refused(run, base, write_data, tmp_path) -> None:
    data, out = write_data(tmp_path, "seqcls"), tmp_path / "run"
    flags = ("--model", base, "--data", data, "--task", "seqcls", *QUICK, "--checkpoint-every", 2)
    assert run("finetune", "--out", out, *flags).code == 0
    occupied = run("finetune", "--out", out, *flags)
    assert occupied.code == 2
    assert "--resume" in occupied.err
    other = run("finetune", "--out", out, "--resume", "--lr", "1e-5")
    assert other.code == 2
    assert "train.lr was 0.003, is 1e-05" in other.err
    head, *lines = data.read_text().splitlines()
    data.write_text("\n".join([head, *reversed(lines)]) + "\n")
    changed = run("finetune", "--out", out, "--resume")
    assert changed.code == 2
    assert "has changed since" in changed.err
    (out / "events.jsonl").unlink()  # where the files' digests were; the checkpoint has those of the samples
    lost = run("finetune", "--out", out, "--resume")
    assert lost.code == 2
    assert "data changed since" in lost.err


TABLES = {
    "numbers": ("text,label\n", "the good fox,{i}.5\n", "", "regression"),
    "several labels": ("text,label\n", "the good fox,{a}|{b}\n", 'label_separator = "|"\n', "multi_label"),
    "pairs": (
        "one,two,label\n",
        "the fox,a good model {i},{a}\n",
        'text_column = ["one", "two"]\n',
        "single",
    ),
    "no evaluation": ("text,label\n", "the good fox,{a}\n", "validation = 0\n", "single"),
    "labels in an order": ("text,label\n", "a fox,{a}\n", 'labels = ["yes", "no", "never"]\n', "single"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_other_kinds_of_rows(run, base, tmp_path, kind) -> None:
    header, row, recipe, problem = TABLES[kind]
    rows = [row.format(i=i, a=("yes", "no")[i % 2], b=("never", "maybe")[i % 3 == 0]) for i in range(24)]
    (tmp_path / "rows.csv").write_text(header + "".join(rows))
    (tmp_path / "recipe.toml").write_text(f"{recipe}[train]\nmax_steps = 3\n")
    outcome = run(
        "finetune", "--recipe", tmp_path / "recipe.toml", "--model", base, "--data", tmp_path / "rows.csv",
        "--task", "seqcls", "--out", tmp_path / "run", "--batch-size", 8,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err + outcome.out
    config = json.loads((tmp_path / "run/model/config.json").read_text())
    assert config["problem_type"].startswith(problem)
    if kind == "no evaluation":
        assert "the last, as nothing was evaluated" in outcome.out
    if kind == "labels in an order":
        assert config["label2id"] == {"yes": 0, "no": 1, "never": 2}


@pytest.mark.slow
def test_two_processes_write_once(base, write_data, tmp_path) -> None:
    data, out = write_data(tmp_path, "seqcls"), tmp_path / "run"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "biject.cli.main",
        "finetune", "--model", base, "--data", data, "--task", "seqcls", "--out", out, *QUICK,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("VERDICT PASS") == 1
    assert done.stdout.count("DATA train") == done.stdout.count("DATA train:")
    assert done.stderr.count("New, randomly initialised") == 1
    steps = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in steps if event["event"] == "step"] == [1, 2, 3, 4, 5, 6]
