"""DPO and reward models against TRL 1.16 on the same batch: ids, losses, rewards, gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file

from biject.adapters.state import adapters_of
from biject.config.adapter import LoraConfig
from biject.config.preference import LossType, PreferenceConfig
from biject.data.features import build_dataset
from biject.data.pairs import PairDataset
from biject.pretrained import PretrainedModel, load
from biject.runs.collators import collator_of
from biject.tokenization.tokenizer import load_tokenizer
from biject.train.preference import DpoObjective, RewardObjective, with_reference
from biject.verify.hf import quiet
from biject.verify.reference import make_reference
from parity.test_adapters import theirs_by_name
from parity.trl_oracle import (
    batch_of,
    dpo_trainer,
    metrics_of,
    moved,
    no_dropout,
    prepared,
    reward_trainer,
    take_weights,
)

Make = Callable[..., Path]
BOUND = 1e-6
ROWS = [
    {"prompt": "the model is", "chosen": " good and right", "rejected": " bad"},
    {"prompt": "number one:", "chosen": " a very long answer that goes on", "rejected": " no"},
    {"prompt": "x", "chosen": " y z", "rejected": " a longer answer than the other"},
]
IMPLICIT = [
    {"chosen": "the sky is blue and high", "rejected": "the sky is green"},
    {"chosen": "one two", "rejected": "one two three"},
    {"chosen": "yes, it is", "rejected": "no"},
]
ASK, TELL = {"role": "user", "content": "what is it?"}, {"role": "system", "content": "be short"}
CHAT = [
    {
        "prompt": [TELL, ASK],
        "chosen": [{"role": "assistant", "content": "a fox"}],
        "rejected": [{"role": "assistant", "content": "no idea at all"}],
    },
    {
        "prompt": [ASK],
        "chosen": [{"role": "assistant", "content": "it is one"}],
        "rejected": [{"role": "assistant", "content": "two"}],
    },
]
WHOLE_CHAT = [
    {side: [*row["prompt"], *row[side]] for side in ("chosen", "rejected")}  # type: ignore[misc]
    for row in CHAT
]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def made(folder: Path) -> Path:
    """With a chat template."""
    (folder / "chat_template.jinja").write_text(CHATML)
    return folder


def dataset_of(folder: Path, rows: Any, task: str, **options: Any) -> PairDataset:
    found = build_dataset(rows, task, load_tokenizer(folder), **options).dataset
    assert isinstance(found, PairDataset)
    return found


def batch_in(folder: Path, model: PretrainedModel, dataset: PairDataset) -> dict[str, torch.Tensor]:
    collate = collator_of(dataset.task, load_tokenizer(folder), model.config)
    return collate([dataset[i] for i in range(len(dataset))])


def close(mine: float, theirs: float) -> bool:
    return abs(mine - theirs) <= BOUND * max(1.0, abs(theirs))


@pytest.fixture(scope="module")
def dpo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A tiny LLaMA and TRL's trainer of it, moved away from its reference.

    Another trainer takes accelerate's one state from it: tests with their own come after those that use this.
    """
    folder = tmp_path_factory.mktemp("dpo") / "model"
    made(make_reference("llama", "causal", folder, overrides=no_dropout("llama")))
    trainer = dpo_trainer(folder, ROWS)
    moved(trainer)
    return folder, trainer


FORMS = {"prompt": ROWS, "implicit": IMPLICIT, "chat": CHAT, "whole chat": WHOLE_CHAT}


@pytest.mark.parametrize("form", FORMS)
def test_dpo_reads_what_trl_reads(form: str, dpo: tuple[Path, Any]) -> None:
    (folder, trainer), rows = dpo, FORMS[form]
    whole = prepared(trainer, rows, 1000)
    for limit in (1000, max(len(row["prompt_ids"]) for row in whole)):  # cuts, and leaves a pair out
        found, theirs = dataset_of(folder, rows, "dpo", max_length=limit), prepared(trainer, rows, limit)
        expected = []
        for row in theirs:
            start, sides = row["prompt_ids"], (row["chosen_ids"], row["rejected_ids"])
            expected.append((len(start), *((start + side)[:limit] for side in sides)))
        expected = [row for row in expected if row[1] != row[2]]  # TRL keeps what teaches nothing
        assert [(s["prompt_length"], s["input_ids"], s["rejected_ids"]) for s in found] == expected
        assert expected
    assert len(theirs) < len(whole)


def test_a_batch_is_that_of_trl(dpo: tuple[Path, Any]) -> None:
    folder, trainer = dpo
    batch = batch_of(trainer)
    mine = batch_in(folder, load(folder, head="causal"), dataset_of(folder, ROWS, "dpo"))
    assert torch.equal(mine["input_ids"], batch["input_ids"])
    assert torch.equal(mine["attention_mask"], batch["attention_mask"])
    assert torch.equal(mine["labels"] != -100, batch["completion_mask"] == 1)


def check_dpo(mine: dict[str, float], trainer: Any, loss: float) -> None:
    theirs = metrics_of(trainer)
    names = {
        "accuracy": "rewards/accuracies",
        "margin": "rewards/margins",
        "reward_chosen": "rewards/chosen",
        "reward_rejected": "rewards/rejected",
        "logps_chosen": "logps/chosen",
        "logps_rejected": "logps/rejected",
    }
    assert mine.keys() == {"loss", *names}
    assert close(mine["loss"], loss)
    for name, other in names.items():
        assert close(mine[name], theirs[other]), (name, mine[name], theirs[other])


def measured(objective: Any, model: PretrainedModel, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    """Loss and metrics of a batch; the model has its gradients afterwards."""
    outputs: list[Any] = []
    hook = model.register_forward_hook(lambda module, given, output: outputs.append(output))
    loss = objective.step(model, batch)
    hook.remove()
    metrics = objective.metrics()
    metrics.update(outputs[0] if len(outputs) == 1 else outputs, batch)
    loss.backward()
    return {"loss": float(loss), **metrics.result()}


def smoothing(loss_type: str) -> float:
    return 0.1 if loss_type in ("robust", "exo_pair") else 0.0


def check_gradients(ours: PretrainedModel, theirs: dict[str, torch.nn.Parameter]) -> None:
    for name, parameter in ours.named_parameters():
        other = theirs[name].grad
        assert parameter.grad is not None
        assert other is not None
        assert float((parameter.grad - other).abs().max()) <= BOUND * max(1.0, float(other.abs().max())), name


def compare_dpo(folder: Path, trainer: Any, layout: Any, **settings: Any) -> None:
    """Loss, metrics and gradients of one batch."""
    trainer.loss_types = [settings.get("loss_type", "sigmoid")]
    trainer.label_smoothing, trainer.beta = settings.get("label_smoothing", 0.0), settings.get("beta", 0.1)
    trainer.model.zero_grad()
    theirs = trainer.compute_loss(trainer.model.train(), batch_of(trainer))
    theirs.backward()
    ours = load(folder, head="causal", layout=layout).train()
    parameters = take_weights(ours, trainer.model)
    reference = load(folder, head="causal", layout=layout)
    objective = DpoObjective(config=PreferenceConfig(**settings), reference=reference)
    mine = measured(objective, ours, batch_in(folder, ours, dataset_of(folder, ROWS, "dpo")))
    check_dpo(mine, trainer, float(theirs))
    check_gradients(ours, parameters)


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("loss_type", get_args(LossType))
def test_every_loss_equals_trl(loss_type: Any, layout: Any, dpo: tuple[Path, Any]) -> None:
    compare_dpo(*dpo, layout, loss_type=loss_type, label_smoothing=smoothing(loss_type), beta=0.3)


@pytest.mark.parametrize("model_type", ["gpt2", "mistral", "qwen2", "qwen3"])
def test_every_family_equals_trl(model_type: str, reference: Make) -> None:
    folder = reference(model_type, "causal", overrides=no_dropout(model_type))
    trainer = dpo_trainer(folder, ROWS)
    moved(trainer)
    compare_dpo(folder, trainer, "packed")


def test_dpo_of_an_adapter_equals_trl(reference: Make, tmp_path: Path) -> None:
    """The reference is the model without its adapter, which is in memory once."""
    import peft

    folder = reference("llama", "causal", overrides=no_dropout("llama"))
    settings = peft.LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = dpo_trainer(folder, ROWS, peft_config=settings)
    ours = load(folder, head="causal")
    ours.add_adapter(
        LoraConfig(r=4, lora_alpha=16, target_modules=("q_proj", "v_proj"), init_lora_weights=False)
    )
    ours.save_adapter(tmp_path / "adapter")
    peft.set_peft_model_state_dict(trainer.model, load_file(tmp_path / "adapter/adapter_model.safetensors"))
    theirs = trainer.compute_loss(trainer.model.train(), batch_of(trainer))
    theirs.backward()
    before = {name: parameter.clone() for name, parameter in ours.named_parameters()}
    batch = batch_in(folder, ours, dataset_of(folder, ROWS, "dpo"))
    mine = measured(DpoObjective(config=PreferenceConfig()), ours.train(), batch)
    check_dpo(mine, trainer, float(theirs))
    assert abs(mine["margin"]) > 1e-3
    assert all(torch.equal(before[name], parameter) for name, parameter in ours.named_parameters())
    parameters, adapter = theirs_by_name(trainer.model), adapters_of(ours).adapters["default"]
    for name, part in adapter.parts.items():
        place = name.replace("layers.", "base_model.model.model.layers.").replace(".attn.", ".self_attn.")
        for leaf in ("lora_A", "lora_B"):
            grad, other = getattr(part, leaf).grad, parameters[f"{place}.{leaf}.weight"].grad
            assert float((grad - other).abs().max()) <= BOUND


def test_the_reference_beforehand_equals_that_of_the_step(reference: Make) -> None:
    folder = reference("gpt2", "causal", overrides=no_dropout("gpt2"))
    trainer = dpo_trainer(folder, ROWS, precompute_ref_log_probs=True)
    model = load(folder, head="causal")
    dataset = dataset_of(folder, ROWS, "dpo")
    collate = collator_of("dpo", load_tokenizer(folder), model.config)
    known = with_reference(dataset, model, collate=collate, batch_size=2)
    for i, row in enumerate(trainer.train_dataset):
        assert close(known[i]["ref_chosen_logps"], row["ref_chosen_logps"])
        assert close(known[i]["ref_rejected_logps"], row["ref_rejected_logps"])
    assert "ref_chosen_logps" not in dataset[0]


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("reward") / "model"
    overrides = {**no_dropout("llama"), "num_labels": 1}
    made(make_reference("llama", "seqcls", folder, overrides=overrides))
    return folder, reward_trainer(folder, ROWS)


@pytest.mark.parametrize("form", FORMS)
def test_reward_reads_what_trl_reads(form: str, reward: tuple[Path, Any]) -> None:
    (folder, trainer), rows = reward, FORMS[form]
    whole = prepared(trainer, rows, 1000)
    for limit in (1000, max(len(row["chosen_ids"]) for row in whole) - 1):
        found, theirs = dataset_of(folder, rows, "reward", max_length=limit), prepared(trainer, rows, limit)
        pairs = [(row["chosen_ids"], row["rejected_ids"]) for row in theirs]
        assert [(sample["input_ids"], sample["rejected_ids"]) for sample in found] == pairs
    assert len(theirs) < len(whole)


def compare_reward(folder: Path, trainer: Any, rows: Any, center: float | None) -> None:
    trainer.args.center_rewards_coefficient = center
    trainer.model.zero_grad()
    theirs = trainer.compute_loss(trainer.model.train(), batch_of(trainer))
    theirs.backward()
    ours = load(folder, head="seqcls").train()
    parameters = take_weights(ours, trainer.model)
    objective = RewardObjective(config=PreferenceConfig(center_rewards_coefficient=center))
    mine = measured(objective, ours, batch_in(folder, ours, dataset_of(folder, rows, "reward")))
    logged = metrics_of(trainer)
    assert close(mine["loss"], float(theirs))
    assert close(mine["accuracy"], logged["accuracy"])
    assert close(mine["margin"], logged["margin"])
    assert close((mine["reward_chosen"] + mine["reward_rejected"]) / 2, logged["mean_reward"])
    check_gradients(ours, parameters)


@pytest.mark.parametrize("center", [None, 0.01])
def test_reward_equals_trl(center: float | None, reward: tuple[Path, Any]) -> None:
    compare_reward(*reward, ROWS, center)


@pytest.mark.parametrize("model_type", ["gpt2", "bert"])
def test_reward_with_margins_equals_trl(model_type: str, reference: Make) -> None:
    """BERT's tokenizer has no end-of-text token, which TRL asks for: it gets our ids."""
    overrides = {**no_dropout(model_type), "num_labels": 1}
    folder = reference(model_type, "seqcls", overrides=overrides)
    rows: Any = [{**row, "margin": 0.3 * i} for i, row in enumerate(ROWS)]
    given = rows
    if model_type == "bert":
        found = dataset_of(folder, rows, "reward")
        given = [
            {"chosen_ids": one["input_ids"], "rejected_ids": one["rejected_ids"], "margin": one["margin"]}
            for one in found
        ]
    compare_reward(folder, reward_trainer(folder, given), rows, 0.01)
