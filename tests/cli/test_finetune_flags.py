"""Settings of a recipe by flags."""

from __future__ import annotations

import tomllib

import pytest

from biject.cli.settings import put
from biject.errors import InputError


def test_flags_and_set_are_in_the_written_recipe(run, base, write_data, tmp_path) -> None:
    out = tmp_path / "run"
    outcome = run(
        *("finetune", "--model", base, "--data", write_data(tmp_path, "seqcls"), "--task", "seqcls"),
        *("--out", out, "--batch-size", "8", "--max-steps", "4", "--eval-every", "2", "--patience", "3"),
        *("--accumulate", "2", "--warmup", "0.25", "--numerics", "fast"),
        *(
            "--set",
            "train.weight_decay=0.5",
            "--set",
            "clip_norm=2",
            "--set",
            "labels=['negative','positive']",
        ),
        *("--set", "schedule=constant"),
    )
    assert outcome.code == 0, outcome.out + outcome.err
    steps = [line.split(":")[0] for line in outcome.out.splitlines() if line.startswith("EVALUATION ")]
    assert steps == ["EVALUATION step 2", "EVALUATION step 4"]
    recipe = tomllib.loads((out / "run.toml").read_text())
    expected = {
        "max_steps": 4, "evaluate_every": 2, "patience": 3, "accumulate": 2, "warmup": 0.25,
        "weight_decay": 0.5, "clip_norm": 2, "schedule": "constant",
    }  # fmt: skip
    assert {key: recipe["train"][key] for key in expected} == expected
    assert recipe["numerics"] == "fast"
    assert recipe["labels"] == ["negative", "positive"]


@pytest.mark.parametrize(
    "settings, says",
    [
        (["nonsense=1"], "KEY=VALUE"),
        (["weight_decai=1"], "Did you mean weight_decay"),
        (["train.labels=1"], "KEY=VALUE"),
        (["lr"], "KEY=VALUE"),
        (["lr=1", "train.lr=2"], "twice"),
    ],
)
def test_what_set_refuses(settings: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        put(settings, into={}, train={})


def test_set_is_wrong_usage_by_the_command(run, base, write_data, tmp_path) -> None:
    data = write_data(tmp_path, "seqcls")
    outcome = run(*("finetune", "--model", base, "--data", data, "--out", tmp_path / "o", "--set", "x=1"))
    assert outcome.code == 2
    assert not (tmp_path / "o").exists()


def test_early_stopping_is_said(run, base, write_data, tmp_path) -> None:
    outcome = run(
        *("finetune", "--model", base, "--data", write_data(tmp_path, "seqcls"), "--task", "seqcls"),
        *("--out", tmp_path / "run", "--max-steps", "30", "--eval-every", "1", "--patience", "1"),
        *("--lr", "1e-12", "--set", "metric=accuracy"),
    )
    assert outcome.code == 0, outcome.err
    assert "STOPPED EARLY after step 2: 1 evaluations without a better one" in outcome.out


@pytest.mark.parametrize(
    ("flags", "says", "not_said"),
    [
        (("--eval-every", "-1"), "`--eval-every` should be at least 0", "evaluate_every"),
        (("--batch-size", "0"), "`--batch-size` should be at least 1", "`batch_size`"),
        (("--max-length", "1"), "`--max-length` should be at least 3", "`max_length`"),
        (("--set", "train.batch_size=0"), "`batch_size` should be at least 1", "--batch-size"),
        (("--set", "mask_share=2"), "`mask_share` should be between 0 and 1", "--mask-share"),
    ],
)
def test_errors_name_what_was_typed(run, base, write_data, tmp_path, flags, says: str, not_said: str) -> None:
    data = write_data(tmp_path, "seqcls")
    wrong = run(
        *("finetune", "--model", base, "--data", data, "--task", "seqcls", "--out", tmp_path / "out"), *flags
    )
    assert wrong.code == 2
    assert says in wrong.err
    assert not_said not in wrong.err


def test_semicolons_and_bad_rows(run, base, tmp_path) -> None:
    data = tmp_path / "data.csv"
    lines = [f"the fox {i};{'yes' if i % 2 else 'no'}" for i in range(20)]
    data.write_text("\n".join(["text;label", *lines[:7], "one;too;many", *lines[7:]]) + "\n")
    common = ("finetune", "--model", base, "--data", data, "--task", "seqcls", "--max-steps", 2)
    refused = run(*common, "--out", tmp_path / "refused", "--delimiter", ";")
    assert refused.code == 2
    assert "line 9" in refused.err
    assert "--skip-bad-rows" in refused.err
    done = run(
        *common, "--out", tmp_path / "run", "--delimiter", ";", "--skip-bad-rows", "--optimizer", "sgd"
    )
    assert done.code == 0, done.err
    assert "1 rows skipped" in done.out
    recipe = tomllib.loads((tmp_path / "run" / "run.toml").read_text())
    assert (recipe["delimiter"], recipe["skip_bad_rows"], recipe["train"]["optimizer"]) == (";", True, "sgd")
    again = run("evaluate", tmp_path / "run", "--data", data, "--delimiter", ";", "--skip-bad-rows")
    assert "EVALUATION 20 samples" in again.out
    answers = run("predict", tmp_path / "run" / "model", "--file", data, "--delimiter", ";")
    assert answers.code == 2  # the damaged row
