"""`--task dpo` and `--task reward` on the command line: runs, evaluations, previews, plans, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from biject.config.adapter import LoraConfig
from biject.pretrained import load
from biject.verify.reference import make_reference

pytestmark = pytest.mark.usefixtures("one_thread")
SHORT = ("--epochs", 2, "--lr", 3e-3, "--batch-size", 8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("llama", "causal", tmp_path_factory.mktemp("llama") / "model")


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [event for event in lines if event["event"] == kind]


@pytest.mark.parametrize("task", ["dpo", "reward"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_raises_the_margin(run, model, write_data, tmp_path, task, method) -> None:
    data, out = write_data(tmp_path, task, count=80), tmp_path / "run"
    flags = ("--model", model, "--data", data, "--task", task, "--method", method, "--eval-every", 1)
    flags += ("--epochs", 2, "--batch-size", 8, "--lr", 3e-2 if method == "lora" else 3e-3)
    done = run("finetune", *flags, "--out", out)
    assert done.code == 0, done.err
    first, *_, last = events(out, "evaluation")
    assert last["margin"] > first["margin"] + 0.05
    assert last["loss"] < first["loss"]
    assert last["accuracy"] == 1.0  # on held-out pairs
    name = "adapter" if method == "lora" else "model"
    assert "VERDICT PASS" in done.out
    assert (out / name).is_dir()
    assert ("REFERENCE" in done.out) == (task == "dpo")
    insights = json.loads((out / "insights.json").read_text())
    assert insights["intervals"]["accuracy"]["value"] == 1.0
    assert {"prompt", "chosen", "rejected", "margin"} <= insights["examples"][0].keys()
    page = (out / "report.html").read_text()
    assert "preference tuning (DPO)" in page or "reward modelling" in page
    assert "smallest margin" in page


def test_reward_exports_one_output(run, model, write_data, tmp_path) -> None:
    data, out = write_data(tmp_path, "reward"), tmp_path / "run"
    done = run("finetune", "--model", model, "--data", data, "--task", "reward", "--out", out, *SHORT)
    assert done.code == 0, done.err
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["id2label"] == {"0": "LABEL_0"}
    again = run("evaluate", out, "--data", data, "--task", "reward", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["metrics"]["accuracy"] == 1.0
    more = run(
        "finetune", "--model", out / "model", "--data", data, "--task", "reward", "--out", tmp_path / "b",
        "--max-steps", 1,
    )  # fmt: skip
    assert more.code == 0, more.err
    assert "HEAD the checkpoint's own" in more.out


@pytest.mark.parametrize("flags", [(), ("--set", "preference.precompute_ref_log_probs=false")])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_dpo_resumes_exactly(run, model, write_data, tmp_path, method, flags) -> None:
    data = write_data(tmp_path, "dpo", count=32)
    table = "" if not flags else "\n[preference]\nprecompute_ref_log_probs = false\n"
    (tmp_path / "run.toml").write_text(
        f'model = "{model}"\ndata = "{data}"\ntask = "dpo"\nmethod = "{method}"\n\n[train]\nbatch_size = 4\n'
        + table
    )
    done = run("verify-resume", tmp_path / "run.toml", "--steps", 4, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["passed"]


def test_reward_resumes_exactly(run, model, write_data, tmp_path) -> None:
    data = write_data(tmp_path, "reward", count=32)
    done = run("verify-resume", "--model", model, "--data", data, "--task", "reward", "--steps", 4, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["passed"]


def test_another_beta_is_another_run(run, model, write_data, tmp_path) -> None:
    data, out = write_data(tmp_path, "dpo"), tmp_path / "run"
    flags = ("--model", model, "--data", data, "--task", "dpo", "--out", out, "--checkpoint-every", 1)
    assert run("finetune", *flags, "--max-steps", 1).code == 0
    done = run("finetune", *flags, "--max-steps", 2, "--resume", "--set", "preference.beta=0.7")
    assert done.code == 2
    assert "preference.beta was 0.1, is 0.7" in done.err
    assert run("finetune", *flags, "--max-steps", 2, "--resume").code == 0


def test_evaluating_needs_a_reference(run, model, write_data, tmp_path) -> None:
    data, out = write_data(tmp_path, "dpo"), tmp_path / "run"
    done = run("finetune", "--model", model, "--data", data, "--task", "dpo", "--out", out, *SHORT)
    assert done.code == 0, done.err
    alone = run("evaluate", out, "--data", data, "--task", "dpo")
    assert alone.code == 2
    assert "compares" in alone.err
    assert "preference.reference_model" in alone.err
    both = run(
        "evaluate", out, "--data", data, "--task", "dpo", "--json", "--set",
        f"preference.reference_model={model}",
    )  # fmt: skip
    assert both.code == 0, both.err
    assert json.loads(both.out)["metrics"]["margin"] > 0.5


def test_an_adapter_brings_its_reference(run, model, write_data, tmp_path) -> None:
    data, out = write_data(tmp_path, "dpo"), tmp_path / "run"
    flags = ("--model", model, "--task", "dpo", "--method", "lora", "--out", out, *SHORT)
    assert run("finetune", *flags, "--data", data, "--eval-data", data).code == 0
    done = run("evaluate", out, "--data", data, "--task", "dpo", "--json")
    assert done.code == 0, done.err
    found, *_, last = (json.loads(done.out)["metrics"], *events(out, "evaluation"))
    # Rewards are 0.1 times differences of sums near -60, whose float32 step is 4e-6 (found: 4e-8 apart).
    assert found["margin"] == pytest.approx(last["margin"], abs=4e-7)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_an_adapter_as_reference_counts_whenever_it_is_computed(
    run, model, write_data, tmp_path, method
) -> None:
    """Beforehand and in every step it is base and adapter, not the base alone."""
    data, adapter = write_data(tmp_path, "dpo"), tmp_path / "adapter"
    theirs = load(model, head="causal")
    theirs.add_adapter(LoraConfig(r=4, lora_alpha=16, init_lora_weights=False))
    theirs.save_adapter(adapter)
    flags = ("--model", model, "--data", data, "--eval-data", data, "--task", "dpo", "--method", method)
    flags += ("--max-steps", 1, "--batch-size", 8, "--set", f"preference.reference_model={adapter}")
    found = []
    for before in ("true", "false"):
        out = tmp_path / before
        setting = f"preference.precompute_ref_log_probs={before}"
        done = run("finetune", *flags, "--out", out, "--set", setting)
        assert done.code == 0, done.err
        found.append(events(out, "evaluation")[-1]["margin"])
    assert abs(found[0]) > 1e-3
    assert found[0] == pytest.approx(found[1], abs=1e-6)  # the same to rounding of sums near -60


@pytest.mark.parametrize("task", ["dpo", "reward"])
def test_preview_and_plan(run, model, write_data, tmp_path, task) -> None:
    data = write_data(tmp_path, task)
    flags = ("--model", model, "--data", data, "--task", task)
    seen = run("finetune", *flags, "--preview", 1)
    assert seen.code == 0, seen.err
    assert "SAMPLE " in seen.out
    assert ("⟦" in seen.out) == (task == "dpo")
    shown = json.loads(run("finetune", *flags, "--preview", 1, "--json").out)["samples"][0]
    assert sum(shown["learned"]) > 0 if task == "dpo" else not any(shown["learned"])
    for method in ("full", "lora"):
        planned = run("plan", *flags, "--method", method, "--json")
        assert planned.code == 0, planned.err
        plan = json.loads(planned.out)
        assert plan["allowed"]
        assert plan["steps"] == 6
        assert plan["seconds"] > 0


GOOD = {"prompt": "the fox", "chosen": " is good", "rejected": " is bad"}


@pytest.mark.parametrize(
    ("task", "row", "says"),
    [
        ("dpo", {"prompt": "a", "chosen": "b"}, "has no column `rejected`"),
        ("dpo", {"prompt": "a", "text": "b"}, "has no column `chosen` and no `rejected`"),
        ("dpo", {**GOOD, "chosen": ""}, "line 2, column `chosen`: expected a text, found an empty one"),
        ("reward", {**GOOD, "rejected": " "}, "column `rejected`: expected a text, found an empty one"),
        ("dpo", {**GOOD, "chosen": None}, "column `chosen`: expected a text or messages, found none"),
        ("dpo", {**GOOD, "rejected": GOOD["chosen"]}, "there is no preference to learn"),
        ("dpo", {**GOOD, "prompt": ""}, "column `prompt`: expected a text, found an empty one"),
        ("dpo", {**GOOD, "chosen": [{"role": "assistant", "content": "x"}]}, "found a list"),
        ("dpo", {**GOOD, "chosen": 7}, "column `chosen`: expected a text, found 7"),
        ("reward", {**GOOD, "margin": "much"}, "column `margin`: expected a number, found 'much'"),
    ],
)
def test_bad_rows(run, model, tmp_path, task, row, says) -> None:
    rows = [GOOD, row] if GOOD.keys() <= row.keys() else [row, row]
    rows = [{**one, "margin": one.get("margin", 1)} for one in rows] if "margin" in row else rows
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in rows))
    flags = ("--model", model, "--data", data, "--task", task, "--set", "validation=0")
    done = run("finetune", *flags, "--out", tmp_path / "run")
    assert done.code == 2
    assert says in done.err
    assert not (tmp_path / "run").exists()


def test_bad_rows_can_be_skipped(run, model, tmp_path) -> None:
    rows = [{**GOOD, "chosen": f" is number {i}"} for i in range(12)] + [{**GOOD, "rejected": ""}]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in rows))
    flags = ("--model", model, "--data", data, "--task", "dpo", "--set", "validation=0", "--preview", 1)
    done = run("finetune", *flags, "--skip-bad-rows")
    assert done.code == 0, done.err
    assert "12 rows, 12 samples" in done.out
    assert "1 rows skipped" in done.out


def test_long_prompts_are_left_out_and_counted(run, model, tmp_path) -> None:
    rows = [GOOD, {**GOOD, "prompt": "the fox " * 20}]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in rows))
    flags = ("--model", model, "--data", data, "--task", "dpo", "--set", "validation=0", "--preview", 1)
    done = run("finetune", *flags, "--max-length", 30)
    assert done.code == 0, done.err
    assert "1 pairs whose prompt alone fills 30 tokens are left out" in done.out
    refused = run("finetune", *flags, "--max-length", 30, "--set", "truncate=false")
    assert refused.code == 2
    assert "line 2, column `prompt`: the prompt has" in refused.err
    nothing = run("finetune", *flags, "--max-length", 3)
    assert nothing.code == 2
    assert "no pair is left: all 2 are too long for 3 tokens, or the same up to there" in nothing.err


@pytest.mark.parametrize(
    ("task", "flags", "says"),
    [
        ("dpo", ("--set", "preference.loss_type=best"), "loss_type"),
        ("dpo", ("--set", "preference.beta=0"), "`beta` should be positive"),
        ("dpo", ("--set", "preference.label_smoothing=0.1"), "is for `loss_type` robust and exo_pair"),
        ("dpo", ("--set", "train.label_smoothing=0.1"), "have no meaning for `--task` dpo"),
        ("reward", ("--set", "train.class_weights=balanced"), "have no meaning for `--task` reward"),
        ("causal", ("--set", "preference.beta=0.3"), "`preference` is for `--task` dpo or reward"),
        ("dpo", ("--shard",), "`sync.shard` is not for `--task` dpo"),
        ("dpo", ("--set", "packing=true"), "packing has no meaning for the task dpo"),
        ("dpo", ("--label-column", "chosen"), "expected two columns"),
        (
            "dpo",
            ("--set", "train.metric=f1"),
            "'f1' is not computed for dpo; there are loss, accuracy, margin",
        ),
        ("dpo", ("--set", "preference.reference_model=/no/such"), "/no/such"),
    ],
)
def test_refused_settings(run, model, write_data, tmp_path, task, flags, says) -> None:
    data = write_data(tmp_path, "dpo")
    done = run(
        "finetune", "--model", model, "--data", data, "--task", task, "--out", tmp_path / "run", *flags
    )
    assert done.code == 2
    assert says in done.err
    assert not (tmp_path / "run").exists()


def test_heads_that_do_not_fit(run, model, write_data, tmp_path) -> None:
    base = make_reference("llama", "base", tmp_path / "base")
    three = make_reference("llama", "seqcls", tmp_path / "three", overrides={"num_labels": 3})
    for task, folder, says in [
        ("dpo", base, "has the head `base`: take a causal language model"),
        ("reward", three, "has a classifier of 3"),
    ]:
        data = write_data(tmp_path, task)
        done = run("finetune", "--model", folder, "--data", data, "--task", task, "--out", tmp_path / "run")
        assert done.code == 2
        assert says in done.err


def test_a_reference_of_another_vocabulary_is_refused(run, model, write_data, tmp_path) -> None:
    other = make_reference("gpt2", "causal", tmp_path / "gpt2")
    flags = ("--model", model, "--data", write_data(tmp_path, "dpo"), "--task", "dpo")
    settings = ("--set", f"preference.reference_model={other}")
    done = run("finetune", *flags, *settings, "--out", tmp_path / "run")
    assert done.code == 2
    assert "has another vocabulary" in done.err
