"""Gradients of rows that go into buckets and back: those of torch's `index_select`, to the bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from biject.nn import layout as layouts_module
from biject.nn.layout import Packed
from biject.nn.packing import first_only, pack, queries_to_16, select, spans


def layout_of(lengths: list[int], width: int, *, num_rows: int = 0) -> Packed:
    mask = torch.arange(width)[None] < torch.tensor(lengths)[:, None]
    return pack(mask, spans(mask), queries_to_16, num_rows=num_rows)


def trained(layout: Packed, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """An attention of all buckets: its outputs, and the gradients of queries, keys and values."""
    inputs = [(rows * factor).requires_grad_() for factor in (1.0, 0.7, -1.3)]
    q, k, v = inputs
    contexts = []
    grids = zip(layout.query_grids(q), layout.key_grids(k), layout.key_grids(v), strict=True)
    for (one, two, three), bucket in zip(grids, layout.buckets, strict=True):
        scores = one @ two.transpose(1, 2)
        if bucket.real_BK is not None:
            scores = scores.masked_fill(~bucket.real_BK[:, None], -torch.inf)
        contexts.append(scores.softmax(-1) @ three)
    out = layout.unbucket(contexts)[: layout.num_tokens]
    out.square().sum().backward()
    return (out, *(x.grad for x in inputs))


def layouts() -> dict[str, Packed]:
    whole = layout_of([3, 40, 16, 17, 9, 40, 1], 40)
    return {
        "mixed": whole,
        "filled up": layout_of([3, 5], 40, num_rows=16),
        "a slice and others": layout_of([16, 16, 20], 20),
        "first columns": first_only(whole, num_rows=16),
        "some rows": select(whole, torch.tensor([0, 7, 44, 61]), num_rows=16),
    }


ROWS = {"mixed": 126, "filled up": 16, "a slice and others": 52, "first columns": 126, "some rows": 126}


@pytest.mark.parametrize("name", list(layouts()))
def test_gradients_are_moved_as_index_select_adds_them_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = layouts()[name]
    rows = torch.randn(ROWS[name], 32, generator=torch.Generator().manual_seed(0))
    moved = trained(layout, rows)
    monkeypatch.setattr(layouts_module, "collect", lambda x, places, _: x.index_select(0, places))
    plain = trained(replace(layout, query_places=None, key_places=None), rows)
    assert all(torch.equal(one, two) for one, two in zip(moved, plain, strict=True))
    assert moved[1].abs().sum() > 0


def test_a_wrong_place_is_seen() -> None:
    layout = layout_of([3, 40, 16], 40)
    rows = torch.randn(59, 32, generator=torch.Generator().manual_seed(0))
    right = trained(layout, rows)
    assert layout.key_places is not None
    turned = replace(layout.key_places, place_N=layout.key_places.place_N.flip(0))
    wrong = trained(replace(layout, key_places=turned), rows)
    assert torch.equal(right[0], wrong[0])
    assert not torch.equal(right[2], wrong[2])


def test_views_begin_only_where_tensors_begin() -> None:
    layout = layout_of([3, 39, 20], 40)
    narrow, wide = (layout.query_grids(torch.randn(62, width)) for width in (9, 16))
    assert [grid.storage_offset() for grid in narrow] == [0, 0, 0]
    assert [grid.storage_offset() for grid in wide] == [0, 16 * 16, 48 * 16]


def test_a_second_gradient() -> None:
    layout = layout_of([3, 18], 20)
    rows = torch.randn(21, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layout.key_grids(x)[1].square(), rows)
