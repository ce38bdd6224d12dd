"""Our exactness here: the Trainer's result is that of a plain PyTorch loop over the HF model, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.fallback.test_runs import run

import biject
from biject.data.collate import Collator
from biject.data.features import build_dataset
from biject.data.rows import load_rows
from biject.fallback.tokenizer import load_fallback_tokenizer
from biject.nn.addresses import align
from biject.train.batches import Sampler
from biject.train.trainer import Trainer

STEPS = 4
CLASSES = {
    "seqcls": biject.AutoModelForSequenceClassification,
    "tokcls": biject.AutoModelForTokenClassification,
    "mlm": biject.AutoModelForMaskedLM,
    "causal": biject.AutoModelForCausalLM,
}
DROPOUT = {
    "mpnet": "hidden_dropout_prob",
    "roformer": "hidden_dropout_prob",
    "t5-encoder": "dropout_rate",
    "gpt_neox": "hidden_dropout",
}


def same_state(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    mine, others = ours.state_dict(), theirs.state_dict()
    assert mine.keys() == others.keys()
    for name, value in mine.items():
        assert torch.equal(value, others[name]), name


@pytest.mark.parametrize("rate", [0.0, 0.2])
@pytest.mark.parametrize(
    ("name", "task"),
    [("mpnet", "seqcls"), ("t5-encoder", "tokcls"), ("gpt_neox", "causal"), ("roformer", "mlm")],
)
def test_four_steps_of_a_plain_loop(
    name: str, task: str, rate: float, checkpoint: Any, write_data: Callable[..., Path], tmp_path: Path
) -> None:
    folder = checkpoint(name, **{DROPOUT[name]: rate})
    rows = load_rows(str(write_data(tmp_path, "mlm" if task == "causal" else task)))
    tokenizer = load_fallback_tokenizer(folder, {"model_type": name.partition("-")[0]})
    built = build_dataset(rows, task, tokenizer)
    new: dict[str, Any] = {"num_labels": len(built.labels)} if built.labels else {}
    collate = (Collator.for_causal if task == "causal" else Collator.of)(tokenizer, segments=False)

    torch.manual_seed(5)
    model = CLASSES[task].from_pretrained(folder, backend="hf", **new)
    torch.manual_seed(5)
    hf_class = getattr(transformers, model.class_name)
    theirs = hf_class.from_pretrained(folder, **new)
    align(theirs)
    same_state(model.hf, theirs)
    before = {name: value.clone() for name, value in theirs.state_dict().items()}

    options: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
    trainer = Trainer(
        model, optimizer=lambda m: torch.optim.AdamW(m.parameters(), **options), collate=collate,
        clip_norm=1.0, schedule="constant", batch_size=8, seed=0, progress=False,
    )  # fmt: skip
    result = trainer.fit(built.dataset, max_steps=STEPS)

    optimizer, losses = torch.optim.AdamW(theirs.parameters(), **options), []
    batches = Sampler(num_samples=len(built.dataset), batch_size=8, seed=0).batches(0)[:STEPS]
    torch.manual_seed(0)
    theirs.train()
    for samples in batches:
        optimizer.zero_grad()
        loss = theirs(**collate([built.dataset[i] for i in samples])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss))
    assert result.losses == losses
    same_state(model.hf, theirs)
    assert any(not torch.equal(value, before[key]) for key, value in theirs.state_dict().items())


def test_dropout_is_drawn(checkpoint: Any) -> None:
    """What makes the comparison above mean something: training mode draws random numbers."""
    model = biject.AutoModelForMaskedLM.from_pretrained(
        checkpoint("roformer", hidden_dropout_prob=0.2), backend="hf"
    ).train()
    ids = torch.arange(5, 15)[None]
    assert not torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_resumed_run_is_the_same_run(
    method: str, checkpoint: Any, write_data: Callable[..., Path], tmp_path: Path
) -> None:
    folder, data = checkpoint("mpnet", hidden_dropout_prob=0.2), write_data(tmp_path / "data", "seqcls")
    settings: dict[str, Any] = {
        "train": {"max_steps": 6, "checkpoint_every": 3, "keep": 5, "load_best": False}
    }
    settings["method"] = method
    half = {**settings, "train": {**settings["train"], "max_steps": 3, "schedule": "constant"}}
    rest = {**settings, "train": {**settings["train"], "schedule": "constant"}}
    whole, _ = run(tmp_path / "constant", folder, data, "seqcls", **rest)
    run(tmp_path / "cut", folder, data, "seqcls", **half)
    resumed, log = run(tmp_path / "cut", folder, data, "seqcls", resume=True, **rest)
    assert any(line.startswith("RESUME from step 3 of 6") for line in log)
    name = "model/model.safetensors" if method == "full" else "adapter/adapter_model.safetensors"
    assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert resumed.passed
