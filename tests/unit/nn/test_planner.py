"""When padding is left out, when all of HF's rows are computed, and what is said about it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.model import Model
from biject.nn import exact, planner
from biject.nn.batch import Batch, HeadRequest
from biject.nn.kernels import keys_by_block, keys_by_piece, keys_to_16
from biject.nn.layout import Packed, Padded
from biject.nn.modules import Linear
from biject.nn.plan import BatchPlan
from biject.nn.rowwise import RowOp
from biject.nn.without_dropout import switch_off_dropout
from biject.pretrained import load
from biject.verify.reference import make_reference

WIDE = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "max_position_embeddings": 64}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Model]:
    """A model on a machine whose kernels keep a row's bits among 16 and more."""
    monkeypatch.setattr(exact, "same_bits_from", lambda i, o, total, *_: 16 if total > 16 else None)
    monkeypatch.setattr(exact, "rowwise_holds", lambda *_: True)
    monkeypatch.setattr(planner, "attention_holds", lambda *_, **__: True)

    def make(head: str = "base", **options: Any) -> Model:
        return load(make_reference("bert", head, tmp_path / head, overrides=WIDE), **options)

    return make


def plan_of(model: Model, counts: list[int] | None, **request: Any) -> BatchPlan:
    mask = None if counts is None else (torch.arange(40) < torch.tensor(counts)[:, None]).long()
    ids = torch.full((8 if counts is None else len(counts), 40), 7)
    return model.planner(model, Batch(input_ids=ids, attention_mask=mask), HeadRequest(**request))


def labels_at(counts: list[int], *places: int) -> torch.Tensor:
    """Labels of a batch, -100 but at these places of the grid."""
    labels = torch.full((len(counts) * 40,), -100)
    labels[list(places)] = 3
    return labels.view(len(counts), 40)


def test_padding_is_left_out(model: Callable[..., Model]) -> None:
    plan = plan_of(model(), [40, 3, 17, 9])
    assert isinstance(plan.layout, Packed)
    assert plan.layout.num_rows == 69
    assert plan.total == 160


@pytest.mark.parametrize("counts", [None, [40, 40, 40, 39], [40] * 4])
def test_equal_and_nearly_full_batches_are_computed_as_they_are(
    counts: list[int] | None, model: Callable[..., Model]
) -> None:
    assert isinstance(plan_of(model(), counts).layout, Padded)


def test_padded_when_requested(model: Callable[..., Model]) -> None:
    counts = [40, 3, 17, 9]
    assert isinstance(plan_of(model(layout="padded"), counts).layout, Padded)
    assert isinstance(plan_of(model("tokcls"), counts, attentions=True).layout, Padded)
    assert isinstance(plan_of(model("tokcls"), counts, labels=labels_at(counts, 45)).layout, Padded)
    assert isinstance(plan_of(model("tokcls"), counts, labels=labels_at(counts, 41)).layout, Packed)


def test_few_tokens_are_filled_up(model: Callable[..., Model]) -> None:
    layout = plan_of(model(), [4, 1, 2]).layout
    assert isinstance(layout, Packed)
    assert (layout.num_tokens, layout.num_rows) == (7, 16)


def test_withdrawn_is_reported_once(model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "same_bits_from", lambda *_: None)
    one = model()
    with pytest.warns(UserWarning, match="69 of 160 rows hold tokens.*numerics='fast'"):
        assert isinstance(plan_of(one, [40, 3, 17, 9]).layout, Padded)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(plan_of(one, [40, 3, 17, 9]).layout, Padded)


def test_fast_asks_nothing(model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("same_bits_from", "rowwise_holds"):
        monkeypatch.setattr(exact, name, None)
    monkeypatch.setattr(planner, "attention_holds", None)
    plan = plan_of(model(numerics="fast"), [40, 3, 17, 9])
    assert isinstance(plan.layout, Packed)
    assert not plan.exact
    assert [bucket.keys for bucket in plan.layout.buckets] == [keys_to_16(n, 40) for n in (3, 17, 40)]


def test_dropout_has_no_bits_to_keep(model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "same_bits_from", lambda *_: None)
    assert isinstance(plan_of(model().train(), [40, 3, 17, 9]).layout, Packed)


def test_attention_that_does_not_hold_sees_the_whole_grid(
    model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "attention_holds", lambda *_, **__: False)
    plan = plan_of(model("seqcls"), [40, 3, 17, 9])
    assert isinstance(plan.layout, Packed)
    assert [(bucket.queries, bucket.keys) for bucket in plan.layout.buckets] == [(40, 40)]
    assert plan.last is plan


def test_the_next_key_rule_is_asked_where_the_first_does_not_hold(
    model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def holds(operation: str, keys: Any, *_: Any, **__: Any) -> bool:
        asked.append(keys)
        return keys is keys_by_piece

    monkeypatch.setattr(planner, "attention_holds", holds)
    plan = plan_of(model("seqcls"), [40, 3, 17, 9])
    assert asked == [keys_by_block, keys_by_piece]
    assert [bucket.keys for bucket in plan.layout.buckets] == [16, 32, 40]
    assert plan.last is not plan


@pytest.mark.parametrize("counts", [None, [40, 40, 40, 39], [40, 3, 17, 9]])
def test_own_draws_only_in_training_of_packed_batches(
    counts: list[int] | None, model: Callable[..., Model]
) -> None:
    """Full batches, too: packed they need no draws of HF's; in the padded layout they do."""
    one = model()
    assert not plan_of(one, counts).own_draws
    plan = plan_of(one.train(), counts)
    assert plan.own_draws
    assert isinstance(plan.layout, Packed)
    assert not plan_of(model("tokcls", layout="padded", numerics="fast").train(), counts).own_draws
    switch_off_dropout(one)
    assert not plan_of(one, counts).own_draws


def test_only_pooled_rows_in_the_last_layer(model: Callable[..., Model]) -> None:
    """And masks that have as many queries as its buckets."""
    plan = plan_of(model("seqcls"), [40, 3, 17, 9])
    last = plan.last.layout
    assert plan.last.narrowed
    assert isinstance(last, Packed)
    assert (last.num_tokens, last.num_rows) == (4, 16)
    for each in (plan, plan.last):
        for masks in each.masks.values():
            for mask, bucket in zip(masks, each.layout.buckets, strict=True):
                assert mask is None or mask.shape == (bucket.batch, 1, bucket.queries, bucket.keys)


def test_only_labelled_rows_in_the_last_layer(model: Callable[..., Model]) -> None:
    counts = [40, 3, 17, 9]
    plan = plan_of(model("mlm"), counts, labels=labels_at(counts, 2, 41, 39))
    assert isinstance(plan.last.layout, Packed)
    assert (plan.last.layout.num_tokens, plan.last.layout.num_rows) == (3, 16)
    assert plan.grid_index_K is not None
    assert plan.grid_index_K.tolist() == [2, 39, 41]


def test_a_head_that_minds_its_neighbours_gets_the_whole_grid(
    model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chosen rows in another place would have other bits, however many there are."""
    one, counts = model("mlm"), [40, 3, 17, 9]
    plan = plan_of(one, counts, labels=labels_at(counts, 1, 2))
    assert plan.min_rows(3) == 16
    widths = {one.config.vocab_size}
    monkeypatch.setattr(exact, "same_bits_from", lambda i, o, *_: None if o in widths else 16)
    assert plan.min_rows(3) is None
    again = plan_of(one, counts, labels=labels_at(counts, 1, 2))
    assert isinstance(again.layout, Packed)
    assert again.last is again


def test_autocast_asks_for_what_is_computed_in(model: Callable[..., Model]) -> None:
    one = model()
    with torch.autocast("cpu", torch.bfloat16):
        assert plan_of(one, [40, 3, 17, 9]).dtype == torch.bfloat16
    assert plan_of(one, [40, 3, 17, 9]).dtype == torch.float32


class Other(Linear):
    """A linear of somebody else's, which may compute anything."""

    def __init__(self, old: Linear) -> None:
        super().__init__(old.in_features, old.out_features)
        self.weight, self.bias = old.weight, old.bias


class Declared(Other):
    """The same, which says what it computes."""

    def row_ops(self) -> tuple[RowOp, ...]:
        return (RowOp("linear", "bias", self.in_features, self.out_features),)


@pytest.mark.parametrize("part", ["attn.k_proj", "mlp.down_proj"])
def test_exactness_asks_the_modules(part: str, model: Callable[..., Model]) -> None:
    """One that does not say what it computes is not exact: all of HF's rows are computed then."""
    one = model()
    owner, _, leaf = f"layers.1.{part}".rpartition(".")
    old = one.get_submodule(f"layers.1.{part}")
    setattr(one.get_submodule(owner), leaf, Other(old))
    with pytest.warns(UserWarning, match="numerics='fast'"):
        assert isinstance(plan_of(one, [40, 3, 17, 9]).layout, Padded)
    setattr(one.get_submodule(owner), leaf, Declared(old))
    assert isinstance(plan_of(one, [40, 3, 17, 9]).layout, Packed)


def test_exactness_asks_about_the_modules_own_widths(
    model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[tuple[int, int]] = set()

    def same_bits_from(inputs: int, outputs: int, *_: Any) -> int:
        asked.add((inputs, outputs))
        return 16

    one = model()
    one.layers[0].mlp.up_proj, one.layers[0].mlp.down_proj = Linear(64, 72), Linear(72, 64)
    monkeypatch.setattr(exact, "same_bits_from", same_bits_from)
    plan_of(one, [40, 3, 17, 9])
    assert asked == {(64, 64), (64, 128), (128, 64), (64, 72), (72, 64)}


def test_masks_come_to_the_host_in_one_transfer(
    model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    plain = planner._on_cpu

    def counting(*masks: torch.Tensor | None) -> Any:
        calls.append(1)
        return plain(*masks)

    monkeypatch.setattr(planner, "_on_cpu", counting)
    counts = [40, 3, 17, 9]
    plan_of(model("mlm"), counts, labels=labels_at(counts, 1, 2))
    assert calls == [1]
