"""`biject plan`: its keys, what it counts, exit codes; and that no weight is read."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

import biject.runs.devices
import biject.runs.plan
from biject.config.recipe_file import make_recipe
from biject.runs.prepare import prepare
from biject.train.batches import Sampler
from biject.verify.reference import make_reference

KEYS = ["allowed", "reasons", "steps", "padded_over_real", "truncated_rows", "peak_bytes", "seconds", "fits"]
FLAGS = ("--set", "train.batch_size=8", "--set", "train.epochs=2")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return make_reference("bert", "base", tmp_path_factory.mktemp("plan") / "model")


def garbage(folder: Path) -> None:
    """The weights' header stays, what it describes does not."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    path.write_bytes(data[:start] + b"\xff" * (len(data) - start))


def test_the_keys_and_what_they_say(run, base, write_data, tmp_path) -> None:
    data = write_data(tmp_path, "seqcls")
    outcome = run("plan", "--model", base, "--data", data, "--task", "seqcls", "--json", *FLAGS)
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert list(found) == KEYS
    recipe = make_recipe(
        {"model": str(base), "data": str(data), "task": "seqcls", "train": {"batch_size": 8, "epochs": 2}}
    )
    prepared = prepare(recipe)
    train = prepared.samples.train
    steps = Sampler(num_samples=len(train), batch_size=8).steps(0)
    masks = [prepared.collate([train[i] for i in step[0][0]])["attention_mask"] for step in steps]
    ratio = sum(mask.numel() for mask in masks) / sum(int(mask.sum()) for mask in masks)
    assert found["steps"] == 2 * len(steps)
    assert found["padded_over_real"] == pytest.approx(ratio, abs=1e-3)
    assert found["truncated_rows"] == 0
    assert found["allowed"] is True
    assert found["reasons"] == []
    assert found["seconds"] > 0
    assert found["peak_bytes"] > sum(p.numel() * 16 for p in prepared.model.parameters())
    assert found["fits"] is True


def test_rows_over_the_limit_are_counted(run, base, write_data, tmp_path) -> None:
    data = write_data(tmp_path, "seqcls")
    outcome = run(
        "plan", "--model", base, "--data", data, "--task", "seqcls", "--json", *FLAGS, "--set", "max_length=8"
    )
    found = json.loads(outcome.out)
    assert 0 < found["truncated_rows"] < 40
    longer = run("plan", "--model", base, "--data", data, "--task", "seqcls", *FLAGS)
    assert "0 rows are cut" in longer.out
    assert [line.split()[0] for line in longer.out.splitlines()] == [
        "ALLOWED",
        "STEPS",
        "TIME",
        "PEAK",
        "FITS",
    ]


@pytest.mark.parametrize("task", ["tokcls", "qa", "mlm"])
def test_no_weight_is_read(run, write_data, tmp_path, task) -> None:
    folder = make_reference("bert", "base", tmp_path / "model")
    garbage(folder)
    data = write_data(tmp_path, task)
    outcome = run("plan", "--model", folder, "--data", data, "--task", task, "--json", *FLAGS)
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["steps"] > 0
    (folder / "model.safetensors").unlink()
    assert run("plan", "--model", folder, "--data", data, "--task", task).code == 2


def test_a_refused_plan(run, base, write_data, tmp_path) -> None:
    data = write_data(tmp_path, "seqcls")
    flags = ("plan", "--model", base, "--data", data, "--task", "seqcls", "--quantization", "nf4")
    outcome = run(*flags, "--json")
    assert outcome.code == 2
    found = json.loads(outcome.out)
    assert list(found) == KEYS
    assert found["allowed"] is False
    assert "a quantised base stays frozen" in found["reasons"][0]
    assert [found[key] for key in KEYS[2:]] == [None] * 6
    lines = run(*flags)
    assert (lines.code, lines.out.split()[0]) == (2, "REFUSED")


def test_what_does_not_fit(run, base, write_data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(biject.runs.plan, "available_bytes", lambda device: 1_000_000)
    monkeypatch.setattr(biject.runs.plan, "resident_bytes", lambda: 0)
    data = write_data(tmp_path, "seqcls")
    outcome = run("plan", "--model", base, "--data", data, "--task", "seqcls", *FLAGS)
    assert outcome.code == 1
    assert "DOES NOT FIT" in outcome.out


def test_a_recipe_and_flags(run, base, write_data, tmp_path) -> None:
    recipe = tmp_path / "recipe.toml"
    data = write_data(tmp_path, "seqcls")
    recipe.write_text(f'model = "{base}"\ndata = "{data}"\ntask = "seqcls"\n[train]\nmax_steps = 5\n')
    outcome = run("plan", "--recipe", recipe, "--json", "--set", "train.max_steps=7")
    assert json.loads(outcome.out)["steps"] == 7
    missing = run("plan", "--data", "x.csv")
    assert missing.code == 2
    assert "plan needs --model" in missing.err


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_adapters_take_less(run, base, write_data, tmp_path, method) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    flags = ("plan", "--model", base, "--data", write_data(tmp_path, "seqcls"), "--task", "seqcls", *FLAGS)
    outcome = run(*flags, "--method", method, "--set", "adapter.r=2", "--no-verify")
    assert outcome.code == 0, outcome.err
    assert ("library" in outcome.out) == (method == "qlora")
    refused = run(*flags, "--method", method, "--quantization", "none" if method == "qlora" else "nf4")
    assert refused.code == 2
    assert refused.out.startswith("REFUSED `")


def test_devices_of_this_machine(run, base, write_data, tmp_path, monkeypatch) -> None:
    data = write_data(tmp_path, "seqcls")
    flags = ("plan", "--model", base, "--data", data, "--task", "seqcls", "--devices", *FLAGS)
    found = json.loads(run(*flags, "--json").out)
    assert [*found] == [*KEYS, "devices"]
    assert found["devices"]["found"][0]["name"] == "cpu"
    assert found["devices"]["found"][0]["tokens_per_second"] > 0
    cpu = biject.runs.devices.torch.device("cpu")
    monkeypatch.setattr(biject.runs.devices, "inventory", lambda: [cpu, cpu])
    *_, first, second, shares = run(*flags).out.splitlines()
    assert first.startswith("DEVICE cpu (")
    assert "tokens/s" in second
    assert shares.startswith("SHARES by speed: cpu ")
    assert "times equal shares" in shares


def test_pictures_are_planned_by_their_patches(run, write_data, tmp_path) -> None:
    """Steps and rows are those of the run; a picture of twice the side has four times the patches."""
    data = write_data(tmp_path, "imgcls", count=24)
    found = []
    for size in (32, 64):
        model = make_reference("vit", "base", tmp_path / f"vit-{size}", overrides={"image_size": size})
        outcome = run("plan", "--model", model, "--data", data, "--task", "imgcls", "--json", *FLAGS)
        assert outcome.code == 0, outcome.err
        found.append(json.loads(outcome.out))
    for one in found:
        assert list(one) == KEYS
        assert one["padded_over_real"] == 1.0
        assert one["truncated_rows"] == 0
        assert one["seconds"] > 0
        assert one["fits"] is True
    recipe = make_recipe(
        {"model": str(tmp_path / "vit-32"), "data": str(data), "task": "imgcls",
         "train": {"batch_size": 8, "epochs": 2}}
    )  # fmt: skip
    train = prepare(recipe).samples.train
    assert found[0]["steps"] == 2 * len(Sampler(num_samples=len(train), batch_size=8).steps(0))
