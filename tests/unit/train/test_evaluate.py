"""What an evaluation computes: the trainer's own step, outputs for metrics, precision, and the best state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biject.errors import InputError
from biject.pretrained import load
from biject.train.evaluate import better
from biject.train.trainer import Trainer

Make = Callable[[], nn.Module]


class Seen:
    """Keeps what it is given; the score is scripted."""

    def __init__(self, kept: list[Any], values: list[float] | None = None) -> None:
        self.kept, self.values = kept, values

    def update(self, outputs: Any, batch: Any) -> None:
        self.kept.append(outputs)

    def result(self) -> dict[str, float]:
        return {"score": self.values.pop(0) if self.values else 0.0}


def offset(model: nn.Module, batch: Any) -> Tensor:
    return 444 + model(**batch).loss


@pytest.mark.parametrize("with_metrics", [False, True])
def test_the_loss_is_that_of_the_users_step(bert: Path, texts: Any, with_metrics: bool) -> None:
    metrics = (lambda: Seen([])) if with_metrics else None
    trainer = Trainer(load(bert), step=offset, metrics=metrics)
    found = trainer.fit(texts[:8], eval_dataset=texts[:6], max_steps=1)
    assert found.history[0]["loss"] > 444
    assert found.best_value == found.history[0]["loss"]


def test_a_sum_with_its_weight_and_metrics(make: Make, data: Any) -> None:
    kept: list[Any] = []

    def step(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="sum"), len(batch[1])

    trainer = Trainer(make(), step=step, metrics=lambda: Seen(kept), batch_size=16)
    found = trainer.fit(data, eval_dataset=data[:20], max_steps=1)
    whole = torch.utils.data.default_collate(data[:20])
    with torch.no_grad():
        expected = nn.functional.cross_entropy(trainer.model(whole[0]), whole[1])
    assert found.history[0]["loss"] == pytest.approx(float(expected), rel=1e-6)
    assert [tuple(logits.shape) for logits in kept] == [(16, 3), (4, 3)]


def test_a_module_whose_outputs_are_a_tuple(data: Any) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.line(x), x

    kept: list[Any] = []

    def step(model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0])[0], batch[1])

    Trainer(Two(), step=step, metrics=lambda: Seen(kept)).fit(data, eval_dataset=data, max_steps=1)
    assert isinstance(kept[0], tuple)
    assert kept[0][0].shape == (32, 3)


def test_a_step_that_calls_the_model_twice_gives_metrics_both(make: Make, data: Any) -> None:
    kept: list[Any] = []

    def step(model: nn.Module, batch: Any) -> Tensor:
        return (model(batch[0]) - model(-batch[0])).square().mean()

    Trainer(make(), step=step, metrics=lambda: Seen(kept)).fit(data, eval_dataset=data[:5], max_steps=1)
    assert isinstance(kept[0], list)
    assert len(kept[0]) == 2


def test_a_step_that_does_not_call_the_model_is_named(make: Make, data: Any) -> None:
    def step(model: Any, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model.head(model.embed(batch[0])), batch[1])

    trainer = Trainer(make(), step=step, metrics=lambda: Seen([]))
    with pytest.raises(InputError, match="`step` did not call the model"):
        trainer.fit(data, eval_dataset=data, max_steps=1)


@pytest.mark.parametrize("with_metrics", [False, True])
def test_evaluation_computes_in_the_precision_of_training(bert: Path, texts: Any, with_metrics: bool) -> None:
    dtypes: list[Any] = []

    def step(model: nn.Module, batch: Any) -> Tensor:
        out = model(**batch)
        dtypes.append((model.training, out.logits.dtype))
        return out.loss

    kept: list[Any] = []
    metrics = (lambda: Seen(kept)) if with_metrics else None
    trainer = Trainer(load(bert), step=step, metrics=metrics, precision="bf16", batch_size=8)
    trainer.fit(texts[:8], eval_dataset=texts[:6], max_steps=1)
    assert set(dtypes) == {(True, torch.bfloat16), (False, torch.bfloat16)}
    assert all(out.logits.dtype == torch.float32 for out in kept)


def weights(model: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("load_best", [True, False])
def test_the_model_is_the_best_state(
    make: Make, data: Any, step: Any, tmp_path: Path, on_disk: bool, load_best: bool
) -> None:
    model, after = make(), {}
    trainer = Trainer(
        model, step=step, metrics=lambda: Seen([], values), metric="score", patience=2, evaluate_every=2,
        load_best=load_best, lr=1e-2, on_step=lambda number, _: after.update({number: weights(model)}),
    )  # fmt: skip
    values = [0.1, 0.9, 0.2, 0.3, 0.4]
    out = tmp_path if on_disk else None
    found = trainer.fit(data, eval_dataset=data[:5], max_steps=20, batch_size=8, out=out)
    assert found.stopped_early
    assert (found.steps, found.best_step) == (8, 4)
    assert found.model_step == (4 if load_best else 8)
    assert same(weights(model), after[found.model_step])
    best, last = "step 4 of 8, by the largest score: loss ", "step 8 of 8: the last, not the best, step 4"
    assert found.model_state.startswith(best if load_best else last)


@pytest.mark.parametrize("unfrozen", [False, True])
def test_the_best_state_where_parameters_were_frozen_or_released(
    make: Make, data: Any, step: Any, unfrozen: bool
) -> None:
    """After the best evaluation, step 2: one layer for another of the same shape, all in the optimizer."""
    model, after, values = make(), {}, [0.9, 0.1, 0.1]
    one, other = model.layers[0][1], model.layers[1][1]
    one.requires_grad_(not unfrozen)

    def on_step(number: int, _: Any) -> None:
        after[number] = weights(model)
        if number == 3:
            one.requires_grad_(unfrozen)
            other.requires_grad_(not unfrozen)

    found = Trainer(
        model, step=step, metrics=lambda: Seen([], values), metric="score", evaluate_every=2,
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1), on_step=on_step,
    ).fit(data, eval_dataset=data[:5], max_steps=6, batch_size=8)  # fmt: skip
    assert found.model_step == found.best_step == 2
    assert same(weights(model), after[2])


def test_a_best_state_that_lacks_what_was_trained_later_is_not_taken(
    make: Make, data: Any, step: Any
) -> None:
    model, values = make(), [0.9, 0.1]
    model.head.requires_grad_(False)
    trainer = Trainer(model, step=step, metrics=lambda: Seen([], values), metric="score", evaluate_every=2)

    def on_step(number: int, _: Any) -> None:
        if number == 3:
            model.head.requires_grad_(True)
            session.optimizer.param_groups[0]["params"] += model.head.parameters()

    trainer.on_step = on_step
    session = trainer.setup(data, max_steps=4, batch_size=8)
    with pytest.warns(UserWarning, match=r"head\.weight was not trained yet at the best evaluation, step 2"):
        found = trainer.run(session, eval_dataset=data[:5])
    assert (found.best_step, found.model_step) == (2, 4)


def test_nothing_evaluated_is_the_last_state(make: Make, data: Any, step: Any) -> None:
    found = Trainer(make(), step=step, max_steps=3).fit(data)
    assert found.model_step == 3
    assert found.model_state == "step 3 of 3: the last, as nothing was evaluated"


def test_resumed_after_the_best(make: Make, data: Any, step: Any, tmp_path: Path) -> None:
    values = [0.1, 0.9, 0.2]
    options: dict[str, Any] = {
        "step": step, "metric": "score", "evaluate_every": 2, "checkpoint_every": 6, "batch_size": 8,
        "metrics": lambda: Seen([], values),
    }  # fmt: skip
    first = Trainer(make(), **options).fit(data, eval_dataset=data[:5], max_steps=8, out=tmp_path)
    assert first.model_step == 4
    values[:] = [0.3]
    model = make()
    found = Trainer(model, **options).fit(data, eval_dataset=data[:5], max_steps=8, out=tmp_path, resume=True)
    assert found.model_step == 4
    assert found.losses == first.losses[6:]
    torch.testing.assert_close(model.state_dict()["head.weight"], weights_of(tmp_path, 4)["head.weight"])


def weights_of(folder: Path, step: int) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "checkpoints" / f"step-{step:06d}" / "model.safetensors")


@pytest.mark.parametrize(("every", "kept"), [(0, ["step-000004"]), (3, ["step-000004", "step-000006"])])
def test_without_checkpoints_only_the_best_stays(
    make: Make, data: Any, step: Any, tmp_path: Path, every: int, kept: list[str]
) -> None:
    values = [0.1, 0.9, 0.2, 0.3]
    Trainer(
        make(), step=step, metrics=lambda: Seen([], values), metric="score", evaluate_every=2,
        checkpoint_every=every, keep=1,
    ).fit(data, eval_dataset=data[:5], max_steps=8, batch_size=8, out=tmp_path)  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == kept


def test_evaluate_gives_what_an_evaluation_in_training_gives() -> None:
    data = [(torch.full((2,), float(i)), torch.tensor(float(i % 3))) for i in range(10)]

    def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (model(batch[0]).squeeze(-1) - batch[1]).square().mean()

    trainer = Trainer(nn.Linear(2, 1), step=step, weigh=lambda batch: len(batch[1]), lr=1e-2, load_best=False)
    result = trainer.fit(data, eval_dataset=data, batch_size=4, epochs=2)
    last = {name: value for name, value in result.history[-1].items() if name != "step"}
    assert trainer.evaluate(data, batch_size=4) == last
    with pytest.raises(InputError, match="empty"):
        trainer.evaluate([])


@pytest.mark.parametrize("metric", ["loss", "-loss", "eval_loss", "perplexity", "mse", "-mse", "-score"])
def test_of_losses_less_is_better_in_either_spelling(metric: str) -> None:
    found = {metric.removeprefix("-"): 1.0}
    assert better(found, metric, 2.0)
    assert not better(found, metric, 0.5)
    assert better({"score": 1.0}, "score", 0.5)


@pytest.mark.parametrize("metric", ["loss", "-loss"])
def test_the_best_loss_is_the_smallest(make: Make, data: Any, step: Any, metric: str) -> None:
    trainer = Trainer(make(), step=step, metric=metric, patience=2, evaluate_every=2, lr=1e-2)
    found = trainer.fit(data, eval_dataset=data, max_steps=8, batch_size=8)
    assert found.best_value == min(entry["loss"] for entry in found.history)
    assert len(found.history) == 4
    assert f"step {found.best_step} of 8, by the smallest loss: " in found.model_state
