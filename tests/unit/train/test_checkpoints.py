"""Checkpoints: exact resume, no pickle, damage named, retention, best and early stopping."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from biject.checkpoint.run_files import JSON_FILE, TENSOR_FILE
from biject.errors import CheckpointError, ConfigError, InputError
from biject.pretrained import load
from biject.train import checkpoints
from biject.train.plain import from_plain, to_plain
from biject.train.trainer import Trainer

Make = Callable[[], nn.Module]


def equal(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def folders(out: Path) -> list[int]:
    return [step for step, _ in checkpoints.existing(out / "checkpoints")]


@pytest.mark.parametrize("kind", ["adamw", "sgd", "multistep"])
def test_resume_is_exact(kind: str, make: Make, data: Any, step: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"step": step, "lr": 1e-2, "batch_size": 8, "checkpoint_every": 5, "keep": 9}
    if kind != "adamw":
        options["optimizer"] = lambda model: torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    if kind == "multistep":  # its state has keys that are no strings
        schedule = torch.optim.lr_scheduler.MultiStepLR
        options["schedule"] = lambda optimizer, steps: schedule(optimizer, milestones=[3, 8], gamma=0.1)
    whole, again = make(), make()
    losses = Trainer(whole, **options).fit(data, max_steps=12, out=tmp_path).losses
    start = tmp_path / "checkpoints" / "step-000005"
    torch.manual_seed(99)
    later = Trainer(again, **options).fit(data, max_steps=12, out=tmp_path / "again", resume=start)
    assert later.losses == losses[5:]
    assert later.steps == 12
    assert equal(whole, again)
    shutil.rmtree(tmp_path / "checkpoints" / "step-000010")
    third = make()
    assert Trainer(third, **options).fit(data, max_steps=12, out=tmp_path, resume=True).losses == losses[5:]
    assert equal(whole, third)


def test_our_models_checkpoints_are_hf_folders(bert: Path, texts: Any, tmp_path: Path) -> None:
    from transformers import BertForSequenceClassification

    model = load(bert)
    trainer = Trainer(model, lr=1e-3, checkpoint_every=2)
    trainer.fit(texts, batch_size=8, max_steps=4, out=tmp_path)
    latest = checkpoints.latest(tmp_path / "checkpoints")
    assert latest is not None
    theirs = BertForSequenceClassification.from_pretrained(latest)
    ours = dict(model.named_parameters())
    assert torch.equal(ours["embed.tokens.weight"], theirs.bert.embeddings.word_embeddings.weight)
    assert equal(load(latest), model)


@pytest.mark.parametrize("heads", [("causal", "qa"), ("qa", "seqcls")])
@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_a_head_whose_class_calls_the_base_otherwise(
    model_type: str, heads: tuple[str, str], tmp_path: Path
) -> None:
    """LlamaForQuestionAnswering writes `transformer.…`, the others `model.…`."""
    from biject.verify.reference import make_reference

    folder = make_reference(model_type, heads[0], tmp_path / "base")

    def fresh() -> nn.Module:
        torch.manual_seed(0)
        with pytest.warns(UserWarning, match="New, randomly"):
            return load(folder, head=heads[1], new_head={} if heads[1] == "qa" else {"labels": ["a", "b"]})

    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 90, (12, 9), generator=draw)
    truth = {"start_positions": torch.tensor(1), "end_positions": torch.tensor(3)}
    truth = truth if heads[1] == "qa" else {"labels": torch.tensor(1)}
    rows = [{"input_ids": row, **truth} for row in ids]
    options: dict[str, Any] = {"lr": 1e-3, "batch_size": 4, "max_steps": 4, "evaluate_every": 2, "keep": 9}
    whole, again = fresh(), fresh()
    found = Trainer(whole, checkpoint_every=2, **options).fit(rows, eval_dataset=rows, out=tmp_path / "run")
    start = tmp_path / "run" / "checkpoints" / "step-000002"
    later = Trainer(again, **options).fit(rows, eval_dataset=rows, out=tmp_path / "again", resume=start)
    assert later.losses == found.losses[2:]
    assert equal(whole, again)
    checkpoints.read(again, start)  # as the best state is taken
    assert equal(again, load(start))


@pytest.mark.parametrize("later", [False, True])
def test_added_tokens_are_in_checkpoints(later: bool, bert: Path, texts: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from biject.tokenization.tokenizer import load_tokenizer

    model, tokenizer = load(bert), load_tokenizer(bert)
    tokenizer.add_tokens([f"<new {index}>" for index in range(200)])
    model.resize_token_embeddings(tokenizer)
    trainer = Trainer(model, checkpoint_every=2, checkpoint_async=later, batch_size=8, max_steps=2)
    trainer.fit(texts, out=tmp_path)
    folder = tmp_path / "checkpoints" / "step-000002"
    ids = tokenizer(["the <new 7> fox"]).input_ids
    assert tokenizer.convert_tokens_to_ids("<new 7>") in ids[0]
    assert AutoTokenizer.from_pretrained(folder)(["the <new 7> fox"])["input_ids"] == ids
    assert load_tokenizer(folder)(["the <new 7> fox"]).input_ids == ids
    assert load(folder).tokens.num_embeddings == model.tokens.num_embeddings


def test_moments_of_a_factors_shape_are_adafactors_alone(
    make: Make, data: Any, step: Any, tmp_path: Path
) -> None:
    """A row in the place of a matrix would be broadcast in silence."""
    from safetensors.torch import load_file, save_file

    options: dict[str, Any] = {"step": step, "batch_size": 8, "max_steps": 4}
    Trainer(make(), checkpoint_every=2, **options).fit(data, out=tmp_path)
    folder = tmp_path / "checkpoints" / "step-000002"
    held = load_file(folder / TENSOR_FILE)
    name = next(name for name, tensor in held.items() if name.endswith("exp_avg") and tensor.dim() == 2)
    save_file({**held, name: held[name][:1].clone()}, folder / TENSOR_FILE)
    (folder / "checkpoint.json").unlink()
    state = json.loads((folder / JSON_FILE).read_text())
    (folder / JSON_FILE).write_text(json.dumps({**state, "sealed": False}))
    with (
        pytest.raises(CheckpointError, match="exp_avg of parameter"),
        pytest.warns(UserWarning, match="digests"),
    ):
        Trainer(make(), **options).fit(data, resume=folder)


def test_no_pickle(make: Make, data: Any, step: Any, tmp_path: Path) -> None:
    Trainer(make(), step=step, checkpoint_every=2).fit(data, max_steps=2, out=tmp_path)
    names = sorted(path.name for path in (tmp_path / "checkpoints" / "step-000002").iterdir())
    assert names == ["checkpoint.json", "config.json", "model.safetensors", JSON_FILE, TENSOR_FILE]


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        (JSON_FILE, lambda data: data[: len(data) // 2]),
        (JSON_FILE, lambda data: b"[]"),
        (JSON_FILE, lambda data: data.replace(b'"version": 1', b'"version": 7')),
        (JSON_FILE, lambda data: data.replace(b'"step_in_epoch"', b'"steps_in_epoch"')),
        (JSON_FILE, lambda data: data.replace(b'"optimizer"', b'"optimiser"')),
        (JSON_FILE, lambda data: data.replace(b'"num_ranks": 1', b'"num_ranks": 2')),
        (TENSOR_FILE, lambda data: data[:-100]),
        (TENSOR_FILE, lambda data: b"\xff" * 50),
        (TENSOR_FILE, lambda data: data.replace(b"generator.cpu.0", b"generator.cpu.9")),
        (TENSOR_FILE, lambda data: data.replace(b'[16,6]', b'[6,16]')),
        ("model.safetensors", lambda data: data[:-4]),
        ("model.safetensors", lambda data: data.replace(b"head.bias", b"head.bios")),
        ("model.safetensors", lambda data: data.replace(b'[16,6]', b'[6,16]')),
    ],
)  # fmt: skip
def test_damage_is_named(
    file: str, damage: Callable[[bytes], bytes], make: Make, data: Any, step: Any, tmp_path: Path
) -> None:
    Trainer(make(), step=step, checkpoint_every=2).fit(data, max_steps=2, out=tmp_path)
    path = tmp_path / "checkpoints" / "step-000002"
    before = (path / file).read_bytes()
    (path / file).write_bytes(damage(before))
    assert (path / file).read_bytes() != before
    with pytest.raises(CheckpointError) as caught:
        Trainer(make(), step=step, max_steps=2).fit(data, resume=path)
    assert "step-000002" in str(caught.value) or file in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "samples", "said"),
    [
        ({"lr": 1e-2}, 50, "lr was 0.001, is 0.01"),
        ({"seed": 4}, 50, "seed was 0, is 4"),
        ({"batch_size": 4}, 50, "batch_size was 8, is 4"),
        ({"freeze": ("embed",)}, 50, "freeze was"),
        ({}, 49, "num_samples was 50, is 49"),
    ],
)
def test_other_settings_and_data_are_refused(
    settings: dict[str, Any], samples: int, said: str, make: Make, data: Any, step: Any, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"step": step, "lr": 1e-3, "batch_size": 8, "max_steps": 4}
    Trainer(make(), **options, checkpoint_every=2).fit(data, out=tmp_path)
    with pytest.raises(CheckpointError, match=said):
        Trainer(make(), **{**options, **settings}).fit(data[:samples], resume=True, out=tmp_path)
    Trainer(make(), **options, evaluate_every=1, keep=7).fit(data, resume=True, out=tmp_path)


def test_another_model_and_optimizer_are_refused(make: Make, data: Any, step: Any, tmp_path: Path) -> None:
    Trainer(make(), step=step, checkpoint_every=2, max_steps=2).fit(data, out=tmp_path)
    with pytest.raises(CheckpointError, match="another model"):
        Trainer(nn.Linear(6, 3), step=step, max_steps=2).fit(data, out=tmp_path, resume=True)
    sgd = lambda model: torch.optim.SGD(model.parameters(), lr=1.0)  # noqa: E731
    with pytest.raises(CheckpointError, match="optimizer"):
        Trainer(make(), step=step, max_steps=2, optimizer=sgd).fit(data, out=tmp_path, resume=True)
    with pytest.raises(InputError, match="no such checkpoint"):
        Trainer(make(), step=step, max_steps=2).fit(data, resume=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="out="):
        Trainer(make(), step=step, max_steps=2).fit(data, resume=True)


def test_nothing_to_resume_starts_at_the_beginning(make: Make, data: Any, step: Any, tmp_path: Path) -> None:
    found = Trainer(make(), step=step, max_steps=3).fit(data, out=tmp_path, resume=True)
    assert len(found.losses) == 3


def test_checkpoints_of_another_run_are_in_the_way(make: Make, data: Any, step: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"step": step, "batch_size": 8, "checkpoint_every": 3, "keep": 2}
    Trainer(make(), **options).fit(data, max_steps=12, out=tmp_path)
    model = make()
    with pytest.raises(CheckpointError, match=r"another run, step-000009 to step-000012, .*`resume=True`"):
        Trainer(model, **options).fit(data, max_steps=6, out=tmp_path)
    assert equal(model, make())
    assert folders(tmp_path) == [9, 12]
    shutil.rmtree(tmp_path / "checkpoints")
    assert Trainer(model, **options).fit(data, max_steps=6, out=tmp_path).steps == 6


def test_a_run_from_an_earlier_checkpoint_keeps_what_it_writes(
    make: Make, data: Any, step: Any, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"step": step, "batch_size": 8, "max_steps": 12, "checkpoint_every": 3}
    Trainer(make(), keep=9, **options).fit(data, out=tmp_path)
    start, there = tmp_path / "checkpoints" / "step-000003", []
    again = Trainer(make(), keep=1, **options)
    again.on_step = lambda number, _: there.append(folders(tmp_path))
    again.fit(data, out=tmp_path, resume=start)
    assert there[4] == [6, 9, 12]  # at step 8, and 9 and 12 are the first run's
    assert folders(tmp_path) == [12]


class Scores:
    """A metric that is told what to say."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def update(self, outputs: Any, batch: Any) -> None:
        pass

    def result(self) -> dict[str, float]:
        return {"score": self.values.pop(0)}


def test_best_and_latest_are_kept(bert: Path, texts: Any, tmp_path: Path) -> None:
    values = [0.1, 0.9, 0.2, 0.3, 0.4, 0.5]
    trainer = Trainer(
        load(bert), metrics=lambda: Scores(values), metric="score", evaluate_every=2, checkpoint_every=2,
        keep=2, batch_size=8, max_steps=12,
    )  # fmt: skip
    found = trainer.fit(texts, eval_dataset=texts[:4], out=tmp_path)
    assert (found.best_step, found.best_value) == (4, 0.9)
    assert folders(tmp_path) == [4, 10, 12]
    assert [entry["step"] for entry in found.history] == [2, 4, 6, 8, 10, 12]


def test_early_stopping(bert: Path, texts: Any, tmp_path: Path) -> None:
    values = [0.5, 0.7, 0.6, 0.7, 0.9]
    trainer = Trainer(
        load(bert), metrics=lambda: Scores(values), metric="score", evaluate_every=1, patience=2,
        batch_size=8, max_steps=12,
    )  # fmt: skip
    found = trainer.fit(texts, eval_dataset=texts[:4], out=tmp_path)
    assert found.stopped_early
    assert (found.steps, found.best_step) == (4, 2)
    assert folders(tmp_path) == [2]  # the best alone, as checkpoint_every is 0
    with pytest.raises(ConfigError, match="'f1' is not computed"):
        Trainer(load(bert), metric="f1").fit(texts, eval_dataset=texts[:4], max_steps=1)


class Two(Scores):
    """Two metrics that do not agree on what is best."""

    def result(self) -> dict[str, float]:
        value = self.values.pop(0)
        return {"score": value, "errors": 10 * value, **({"late": value} if value < 0.5 else {})}


def by(metric: str, values: list[float], step: Any, **more: Any) -> dict[str, Any]:
    return {
        "step": step, "metrics": lambda: Two(values), "metric": metric, "evaluate_every": 2, "batch_size": 8,
        "checkpoint_every": 2, "keep": 9, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "best"), [("-errors", (2, 3.0)), ("-score", (2, 0.3)), ("late", (8, 0.4)), ("score", (4, 0.9))]
)
def test_another_metric_judges_the_whole_run(
    metric: str, best: tuple[int, float], make: Make, data: Any, step: Any, tmp_path: Path
) -> None:
    values = [0.3, 0.9, 0.8, 0.4]
    Trainer(make(), **by("score", values, step)).fit(data, eval_dataset=data[:5], max_steps=6, out=tmp_path)
    again = Trainer(make(), **by(metric, values, step))
    found = again.fit(data, eval_dataset=data[:5], max_steps=8, out=tmp_path, resume=True)
    assert (found.best_step, found.best_value) == best
    assert found.model_step == best[0]


def test_what_no_evaluation_computed_begins_anew(make: Make, data: Any, step: Any, tmp_path: Path) -> None:
    values = [0.9, 0.8, 0.4]
    Trainer(make(), **by("score", values, step)).fit(data, eval_dataset=data[:5], max_steps=4, out=tmp_path)
    session = Trainer(make(), **by("late", values, step)).setup(data, max_steps=6)
    session.resume(tmp_path / "checkpoints" / "step-000004")
    state = session.state
    assert (state.best_value, state.best_step, state.evaluations_without_better) == (None, None, 0)


@pytest.mark.parametrize(
    ("settings", "over"),
    [
        ({}, True),
        ({"patience": 1}, True),
        ({"patience": 3}, False),
        ({"patience": 0}, False),
        ({"metric": "-score"}, False),
    ],
)
def test_a_new_patience_decides_whether_the_run_is_over(
    settings: dict[str, Any], over: bool, make: Make, data: Any, step: Any, tmp_path: Path
) -> None:
    values = [0.9, 0.8, 0.7]
    options = by("score", values, step, patience=2)
    first = Trainer(make(), **options).fit(data, eval_dataset=data[:5], max_steps=12, out=tmp_path)
    assert (first.stopped_early, first.steps) == (True, 6)
    session = Trainer(make(), **{**options, **settings}).setup(data, max_steps=12)
    session.resume(tmp_path / "checkpoints" / "step-000006")
    assert session.state.stopped_early is over


def test_evaluation_draws_nothing(make: Make, data: Any, step: Any) -> None:
    curves = []
    for evaluation in (None, data[:7]):
        trainer = Trainer(make(), step=step, evaluate_every=1, batch_size=8)
        curves.append(trainer.fit(data, eval_dataset=evaluation, max_steps=6).losses)
    assert curves[0] == curves[1]


def test_plain_state() -> None:
    value = {"a": (1, 2.5), 3: [None, {"b": ()}], "!tuple": True}
    assert from_plain(json.loads(json.dumps(to_plain(value, where="state")))) == value
    with pytest.raises(CheckpointError, match=r"state\.f is a function"):
        to_plain({"f": lambda: None}, where="state")
