"""`biject finetune --method lora|qlora`: what is written, what stays, resuming, what is refused."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from biject.errors import BijectError
from biject.pretrained import load

QUICK = ("--epochs", 2, "--batch-size", 8, "--lr", "1e-2")
LORA = ("--method", "lora", "--rank", 4)


pytestmark = pytest.mark.usefixtures("one_thread")


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def started(base: Path, data: Path, out: Path, adapter: tuple[object, ...] = LORA) -> tuple[object, ...]:
    return ("finetune", "--model", base, "--data", data, "--task", "seqcls", "--out", out, *QUICK, *adapter)


def test_an_adapter_and_with_merge_a_model(run, base, write_data, tmp_path) -> None:
    before = files(base)
    out = tmp_path / "run"
    command = started(base, write_data(tmp_path, "seqcls"), out)
    outcome = run(*command, "--targets", "all-linear", "--alpha", 16, "--merge", "--checkpoint-every", 3)
    assert outcome.code == 0, outcome.err + outcome.out
    assert files(base) == before
    assert "ADAPTER rank 4 on 13 modules" in outcome.out
    assert {path.name for path in (out / "adapter").iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "biject.json",
    }  # fmt: skip
    written = tomllib.loads((out / "run.toml").read_text())
    assert (written["method"], written["adapter"]["r"], written["adapter"]["lora_alpha"]) == ("lora", 4, 16)
    stored = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert (stored["r"], stored["base_model_name_or_path"]) == (4, str(base))
    checkpoint = next((out / "checkpoints").iterdir())
    assert (checkpoint / "adapter_model.safetensors").is_file()
    assert not (checkpoint / "model.safetensors").exists()
    adapter, merged = load(out / "adapter"), load(out / "model")
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.allclose(adapter(ids).logits, merged(ids).logits, atol=1e-4)  # a sum in another order
    assert adapter.id2label == merged.id2label
    assert outcome.out.splitlines()[-1].startswith("BEST ")
    card = ModelCard.load(out / "adapter" / "README.md").data
    assert (card.library_name, card.pipeline_tag) == ("peft", "text-classification")
    assert "lora" in card.tags
    receipt = json.loads((out / "merge_receipt.json").read_text())
    assert receipt["passed"] is True
    assert receipt["results"]["original"]["effect"] > 0
    assert "Merge" in (out / "report.html").read_text()
    assert "merge" in [one["name"] for one in json.loads((out / "verify.json").read_text())["levels"]]


def test_a_merge_that_is_not_the_adapter_fails_the_run(run, base, write_data, tmp_path, monkeypatch) -> None:
    """Planted: the merged matrices are a little larger than what the adapter makes."""
    from biject.adapters import merge

    honest = merge.merged_weight
    monkeypatch.setattr(merge, "merged_weight", lambda module, part: honest(module, part) * 1.1)
    out = tmp_path / "run"
    outcome = run(*started(base, write_data(tmp_path, "seqcls"), out), "--merge", "--max-steps", 3)
    assert outcome.code == 1, outcome.out + outcome.err
    assert "FAIL merge receipt merged outputs differ from the adapter's" in outcome.out
    assert ">failed</span>" in (out / "report.html").read_text()


def test_resumed_to_the_bit(run, base, write_data, tmp_path) -> None:
    data = write_data(tmp_path, "seqcls")
    for name, steps in (("whole", ()), ("part", ("--max-steps", 3))):
        every = ("--checkpoint-every", 3, "--no-verify", "--set", "schedule=constant", *steps)
        assert run(*started(base, data, tmp_path / name), *every).code == 0
    total = run("finetune", "--resume", "--out", tmp_path / "part", "--no-verify", "--max-steps", 10)
    assert total.code == 0, total.err
    again = run("finetune", "--resume", "--out", tmp_path / "whole", "--no-verify", "--max-steps", 10)
    assert again.code == 0, again.err
    one, two = (load_file(tmp_path / n / "adapter" / "adapter_model.safetensors") for n in ("whole", "part"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_verify_resume(run, base, write_data, tmp_path) -> None:
    out = tmp_path / "run"
    assert run(*started(base, write_data(tmp_path, "seqcls"), out), "--no-verify").code == 0
    outcome = run("verify-resume", out, "--steps", 4)
    assert outcome.code == 0, outcome.out + outcome.err
    assert "VERDICT PASS" in outcome.out


def test_the_tasks_that_peft_refuses_all_linear_for(run, base, write_data, tmp_path) -> None:
    for task in ("tokcls", "qa"):
        (tmp_path / task).mkdir()
        data, out = write_data(tmp_path / task, task), tmp_path / task / "run"
        outcome = run(
            *("finetune", "--model", base, "--data", data, "--task", task, "--out", out, *QUICK, *LORA),
            *("--targets", "all-linear", "--max-steps", 2, "--no-verify"),
        )
        assert outcome.code == 0, outcome.err
        assert load(out / "adapter").head_name == task


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--method", "full", "--rank", 4), "for `--method` lora or qlora"),
        (("--method", "qlora", "--merge"), "biject merge"),
        (("--method", "lora", "--targets", "quary"), "nearest: query"),
        (("--method", "lora", "--rank", 0), "`--rank` should be"),
        (("--method", "lora", "--set", "adapter.bias=some"), "none"),
        (("--method", "lora", "--set", "adapter.rnk=3"), "rnk"),
        (("--method", "lora", "--set", "train.freeze=['embed']"), "freeze"),
    ],
)
def test_what_cannot_be_used_is_said_and_nothing_is_written(
    run, base, write_data, tmp_path, flags, says
) -> None:
    out = tmp_path / "run"
    outcome = run(*started(base, write_data(tmp_path, "seqcls"), out, flags))
    assert outcome.code == 2
    assert says in outcome.err
    assert not out.exists()


def test_qlora(run, base, write_data, tmp_path) -> None:
    pytest.importorskip("bitsandbytes")
    out = tmp_path / "run"
    outcome = run(
        *started(base, write_data(tmp_path, "seqcls"), out, ("--method", "qlora")),
        *("--max-steps", 3, "--no-verify"),
    )
    assert outcome.code == 0, outcome.err
    assert "on a base in nf4" in outcome.out
    record = json.loads((out / "adapter" / "biject.json").read_text())["adapter"]
    assert record["quantization"] == "nf4"
    with pytest.warns(UserWarning, match="not quantised"):
        load(out / "adapter")
    load(out / "adapter", quantization="nf4", dtype=torch.float32)
    merged = run("merge", "--adapter", out / "adapter", "--out", tmp_path / "merged")
    assert merged.code == 0, merged.out
    assert "RECOMMENDED" in merged.out
    assert "not quantised" not in merged.err  # both bases are tried on purpose


def test_a_run_whose_checkpoint_is_of_another_adapter(run, base, write_data, tmp_path) -> None:
    out = tmp_path / "run"
    command = started(base, write_data(tmp_path, "seqcls"), out)
    assert run(*command, "--checkpoint-every", 3, "--max-steps", 6, "--no-verify").code == 0
    changed = run("finetune", "--resume", "--out", out, "--rank", 8, "--max-steps", 8)
    assert changed.code == 2
    assert "adapter" in changed.err
    assert issubclass(BijectError, Exception)
