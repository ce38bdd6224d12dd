"""The step's arithmetic, the three tiers, precision, and what stops a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biject.errors import ConfigError, InputError
from biject.pretrained import load
from biject.train.loop import Engine
from biject.train.trainer import Trainer
from biject.train.weights import num_rows

Make = Callable[[], nn.Module]


def equal(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_managed_and_decomposed_are_one(make: Make, data: Any, step: Any) -> None:
    managed, decomposed = make(), make()
    losses = Trainer(managed, step=step, lr=1e-2, seed=3).fit(data, batch_size=8, epochs=2).losses

    session = Trainer(decomposed, step=step, lr=1e-2, seed=3).setup(data, batch_size=8, epochs=2)
    assert [session.step(window).loss for window in session.windows()] == losses

    assert equal(managed, decomposed)


def test_the_engine_by_hand_is_plain_pytorch(make: Make, data: Any, step: Any) -> None:
    ours, theirs = make(), make()
    batches = [torch.utils.data.default_collate(data[at : at + 10]) for at in range(0, 50, 10)]
    engine = Engine(
        model=ours,
        optimizer=torch.optim.SGD(ours.parameters(), lr=0.1, momentum=0.9),
        schedule=None,
        step=step,
        weigh=num_rows_of_pair,
        clip_norm=0.5,
    )
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(1)
    found = [engine.train_step([batch]) for batch in batches]
    torch.manual_seed(1)
    for batch, result in zip(batches, found, strict=True):
        optimizer.zero_grad()
        loss = step(theirs, batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        optimizer.step()
        assert (result.loss, result.grad_norm, result.items) == (float(loss.detach()), float(norm), 10)
    assert equal(ours, theirs)


def num_rows_of_pair(batch: Any) -> float:
    return num_rows(batch[0])


def test_a_sum_with_its_weight_is_the_mean(make: Make, data: Any, step: Any) -> None:
    def summed(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="sum")
        return loss, torch.tensor(len(batch[1]))

    results = [
        Trainer(make(), step=kind, lr=1e-3, accumulate=3).fit(data, batch_size=4, max_steps=8).losses
        for kind in (step, summed)
    ]
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_a_batch_without_labels_weighs_nothing(bert: Path) -> None:
    """Its mean is no number; the step is the other batch's."""
    ids = torch.arange(5, 25).reshape(2, 10)
    labelled = {"input_ids": ids, "labels": torch.tensor([0, 1])}
    empty = {"input_ids": ids, "labels": torch.tensor([-100, -100])}
    losses = []
    for window in ([labelled], [labelled, empty]):
        session = Trainer(load(bert), lr=1e-3, accumulate=2).setup(iter([labelled]), max_steps=1)
        session.model.eval()
        losses.append(session.engine.train_step(window).loss)
    assert losses[0] == losses[1]
    session = Trainer(load(bert)).setup(iter([empty]), max_steps=1)
    with pytest.raises(InputError, match="no labelled item"):
        session.step([empty])


def test_a_loss_that_is_no_number_stops(make: Make, data: Any) -> None:
    def broken(model: nn.Module, batch: Any) -> Tensor:
        return model(batch[0]).mean() * float("nan")

    model = make()
    with pytest.raises(InputError, match="NaN"):
        Trainer(model, step=broken).fit(data, max_steps=2)
    assert not model.training


def test_clipping(make: Make, data: Any, step: Any) -> None:
    norms: list[float] = []
    optimizer = lambda model: torch.optim.SGD(model.parameters(), lr=1.0)  # noqa: E731
    model = make()
    before = torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])
    constant = lambda optimizer, steps: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)  # noqa: E731
    trainer = Trainer(
        model, step=step, optimizer=optimizer, schedule=constant, clip_norm=1e-3,
        on_step=lambda _, done: norms.append(done.grad_norm or 0.0),
    )  # fmt: skip
    trainer.fit(data, max_steps=1)
    after = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    assert norms[0] > 1e-2
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_bf16_computes_in_bf16_and_keeps_fp32(bert: Path, texts: Any) -> None:
    model = load(bert)
    seen: set[torch.dtype] = set()
    hook = model.layers[0].mlp.register_forward_hook(lambda *a: seen.add(a[2].dtype))
    losses = Trainer(model, lr=1e-3, precision="bf16").fit(texts, batch_size=8, epochs=6).losses
    hook.remove()
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert losses[-1] < losses[0]


def test_f16_scales_the_loss(make: Make, data: Any, step: Any) -> None:
    model = make()
    trainer = Trainer(model, step=step, lr=1e-2, precision="f16")
    session = trainer.setup(data, batch_size=10, epochs=5)
    try:
        losses = [session.step(window).loss for window in session.windows()]
    except RuntimeError as error:  # a CPU without half-precision kernels
        pytest.skip(str(error))
    assert session.scaler is not None
    assert session.scaler.get_scale() > 1
    assert losses[-1] < losses[0]
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_gradient_checkpointing_changes_no_bit(bert: Path, texts: Any) -> None:
    models = [load(bert), load(bert)]
    for model, recompute in zip(models, (False, True), strict=True):
        Trainer(model, lr=1e-3, gradient_checkpointing=recompute).fit(texts, batch_size=8, max_steps=4)
    assert equal(*models)
    with pytest.raises(ConfigError, match="no gradient checkpointing"):
        Trainer(nn.Linear(2, 2), step=lambda m, b: m(b).sum(), gradient_checkpointing=True).setup([1.0])


@pytest.mark.slow
def test_compile(texts: Any, tmp_path: Path) -> None:
    """Close to, and not the bits of, the plain model: the compiler fuses operations."""
    from biject.verify.reference import make_reference

    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_hidden_layers": 1}
    folder = make_reference("bert", "seqcls", tmp_path / "model", overrides=off)
    results = []
    for compiled in (False, True):
        model = load(folder)
        results.append(Trainer(model, lr=1e-3, compile=compiled).fit(texts, batch_size=8, max_steps=3).losses)
    assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_what_is_no_model_and_no_data(make: Make, data: Any, step: Any, bert: Path) -> None:
    with pytest.raises(ConfigError, match="Module"):
        Trainer("bert")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="for_head"):
        Trainer.for_head(make())
    with pytest.raises(InputError, match="empty"):
        Trainer(make(), step=step).fit([])
    with pytest.raises(ConfigError, match="max_steps"):
        Trainer(make(), step=step).fit(iter(data))
    with pytest.raises(InputError, match="no batch"):
        Trainer(make(), step=step).fit(iter([]), max_steps=1)
    with pytest.raises(InputError, match="labels are missing"):
        Trainer.for_head(load(bert)).fit([{"input_ids": torch.arange(5, 9)}], max_steps=1)


def test_seeds_decide_everything(make: Make, data: Any, step: Any) -> None:
    def losses(seed: int) -> list[float]:
        return Trainer(make(), step=step, seed=seed).fit(data, batch_size=8, epochs=1).losses

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)
