"""A packed batch scores with those rows of the position table that it looks at: which, and with what bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from biject.config.layers import NormConfig, RelativeConfig
from biject.model import Model
from biject.nn import planner
from biject.nn.batch import Batch, HeadRequest
from biject.nn.layout import Packed
from biject.nn.positions import near_positions
from biject.nn.probe import columns as columns_question
from biject.nn.relative import ALIGNED, RelativeScores, Rows, near_rows, relative_distances
from biject.pretrained import load
from biject.verify.reference import make_reference

SIZES = {
    "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
    "position_buckets": 64, "max_position_embeddings": 128,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
COUNTS = (21, 3, 17, 9)


@given(st.sampled_from([(-1, 40), (8, 24), (32, 64)]), st.integers(1, 60), st.integers(1, 60))
def test_all_that_is_looked_up_is_there(kind: tuple[int, int], queries: int, keys: int) -> None:
    buckets, reach = kind
    config = RelativeConfig(
        content_to_position=True, position_to_content=True, enabled=True, share_keys=True,
        buckets=buckets, max_distance=reach, norm=NormConfig(kind="none"), dropout=0.0,
    )  # fmt: skip
    distances, last = relative_distances(60, config, torch.device("cpu")), 2 * config.span - 1
    rows = near_rows(distances, config.span, queries, keys)
    by_row = (distances[0, :queries, :keys] + config.span).clamp(0, last)
    by_column = (config.span - distances[0, :keys, :queries]).clamp(0, last)
    for places in (by_row, by_column):
        assert rows.first <= int(places.min()) <= int(places.max()) < rows.end
    assert rows.end <= last + 1
    assert rows.end - rows.first <= min(queries + keys + 2 * ALIGNED, last + 1)
    assert config.rows_seen(queries, keys) == rows.end - rows.first  # what operations are counted with


@pytest.mark.parametrize(("buckets", "reach"), [(64, 32), (64, 33), (32, 17)])
def test_buckets_that_fold_back(
    buckets: int, reach: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logarithm's base is 1 or less: far tokens may look at any row, which all are there then."""
    sizes = {**SIZES, "position_buckets": buckets, "max_relative_positions": reach}
    folder, given_ = make_reference("deberta-v2", "base", tmp_path / "model", overrides=sizes), batch((90, 7))
    assert relative_of(load(folder)).rows_seen(90, 90) == 2 * buckets
    with torch.no_grad():
        packed, padded = (load(folder, layout=x)(**given_).last_hidden_state for x in ("packed", "padded"))
    real = given_["attention_mask"].bool()
    assert torch.equal(packed[real], padded[real]) or bool(padded[real].isnan().any())


def relative_of(model: Model) -> RelativeConfig:
    assert model.config.relative_table is not None
    return model.config.relative_table


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Model]:
    def make(**options: Any) -> Model:
        return load(make_reference("deberta-v2", "base", tmp_path / "model", overrides=SIZES), **options)

    return make


def batch(counts: tuple[int, ...] = COUNTS) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    mask = (torch.arange(max(counts)) < torch.tensor(counts)[:, None]).long()
    return {"input_ids": torch.randint(5, 90, mask.shape, generator=draw) * mask, "attention_mask": mask}


def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many of the table's rows each layer projects."""
    found, known = [], RelativeScores.positions

    def positions(self: RelativeScores, *args: Any) -> Any:
        heads = known(self, *args)
        found.append(heads.keys.shape[1])
        return heads

    monkeypatch.setattr(RelativeScores, "positions", positions)
    return found


def with_whole_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "near_positions", lambda *_, **__: None)


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_fewer_rows_with_the_bits_of_the_whole_table(
    numerics: Any, model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, given_ = model(numerics=numerics), batch()
    found = seen(monkeypatch)
    with torch.no_grad():
        few = net(**given_).last_hidden_state
    assert set(found) == {64} if numerics == "fast" else max(found) < 128
    with_whole_table(monkeypatch)
    with torch.no_grad():
        whole = net(**given_).last_hidden_state
    assert found[-1] == 128
    assert torch.equal(few, whole)


def test_gradients_are_those_of_the_whole_table(
    model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, given_ = model().train(), batch()

    def gradients() -> dict[str, Tensor]:
        net.zero_grad()
        net(**given_).last_hidden_state.pow(2).sum().backward()
        return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}

    few = gradients()
    with_whole_table(monkeypatch)
    whole = gradients()
    assert few.keys() == whole.keys()
    for name, gradient in whole.items():  # sums over fewer rows run in another order
        assert (few[name] - gradient).norm() <= 1e-6 * gradient.norm(), name
    assert few["relative.table.weight"].abs().sum(1).count_nonzero() < 64


def test_a_whole_grid_keeps_the_whole_table(
    model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, found = model(layout="padded"), seen(monkeypatch)
    net(**batch())
    assert set(found) == {128}


def test_the_whole_table_where_a_machine_gives_few_columns_other_bits(
    model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, found = model(numerics="exact"), seen(monkeypatch)
    monkeypatch.setattr("biject.nn.positions.columns_hold", lambda *_: False)
    with torch.no_grad():
        net(**batch())
    assert set(found) == {128}


def test_rows_that_bits_need_beside_those_looked_at(
    model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = model()
    monkeypatch.setattr("biject.nn.positions.min_rows", lambda ops, count, total, dtype: 101)
    monkeypatch.setattr("biject.nn.positions.columns_hold", lambda *_: True)
    distances = relative_distances(21, net.config.relative_table, net.device)
    rows = near_positions(net, distances, ops=frozenset(), keep_bits=True, dtype=torch.float32)
    assert rows is not None
    assert rows.end - rows.first == 101
    assert rows.first <= 64 - 20
    assert rows.end > 64 + 20
    assert rows.end <= 128


def test_the_probe_finds_columns_that_mind_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured, not asked: answers that are kept are of this machine."""
    plain = torch.bmm

    def planted(x: Tensor, y: Tensor) -> Tensor:
        return plain(x, y) * (1 + 2**-20 * (y.shape[-1] == 192))

    def one_by_one(x: Tensor, y: Tensor) -> Tensor:
        return (x.unsqueeze(2) * y.mT.unsqueeze(1)).sum(-1)

    monkeypatch.setattr(columns_question.torch, "bmm", planted)
    assert not columns_question._measure(16, 256, torch.float32)
    monkeypatch.setattr(columns_question.torch, "bmm", one_by_one)
    assert columns_question._measure(16, 64, torch.float32)


def test_texts_of_one_batch_share_the_rows_of_the_longest(model: Callable[..., Model]) -> None:
    net, given_ = model(numerics="fast"), batch((40, 3, 9))
    plan = net.planner(net, Batch(**given_), HeadRequest())
    assert isinstance(plan.layout, Packed)
    assert plan.near_positions == Rows(16, 112)
