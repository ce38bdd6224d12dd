"""The packed layout: rows and grid are inverse, buckets cover every text, some rows can be needed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from biject.nn.kernels import (
    keys_by_block,
    keys_by_piece,
    keys_by_piece_or_all,
    keys_or_all,
    keys_to_16,
    whole_grid,
)
from biject.nn.layout import Packed, Padded
from biject.nn.packing import MIN_QUERIES, ColumnRule, first_only, pack, queries_to_16, select, spans

from .grouping import grouped, spec_of

SPEC = spec_of(2, 8)
RULES: list[ColumnRule] = [
    keys_by_block,
    keys_by_piece,
    keys_by_piece_or_all,
    keys_or_all,
    keys_to_16,
    whole_grid,
]


def mask_of(counts: list[int], columns: int) -> Tensor:
    return torch.arange(columns) < torch.tensor(counts)[:, None]


def odd_mask() -> Tensor:
    """Right-padded, left-padded, a hole, nothing at all, all, one token."""
    mask = mask_of([7, 5, 20, 0, 20, 1, 18], 20)
    mask[1] = mask[1].flip(0)
    mask[2, 9] = False
    return mask


def packed(mask: Tensor, keys: ColumnRule = keys_by_block, **options: int) -> Packed:
    return pack(mask, spans(mask), keys, **options)  # type: ignore[arg-type]


def test_spans_keep_texts_with_holes_whole() -> None:
    assert spans(odd_mask()) == [7, 20, 20, 20, 20, 1, 18]


@pytest.mark.parametrize("keys", RULES)
def test_rows_and_grid_are_inverse(keys: ColumnRule) -> None:
    mask = odd_mask()
    layout = packed(mask, keys)
    grid = torch.randn(*mask.shape, 3)
    rows = layout.rows(grid)
    assert rows.shape == (sum(spans(mask)), 3) == (layout.num_tokens, 3)
    back = layout.grid(rows)
    kept = mask_of(spans(mask), 20)
    assert torch.equal(back[kept], grid[kept])
    assert bool((back[~kept] == 0).all())
    assert torch.equal(layout.rows(back), rows)


def test_ids_and_first_rows() -> None:
    mask = odd_mask()
    layout = packed(mask)
    ids = torch.arange(mask.numel()).view(mask.shape)
    assert torch.equal(layout.pick(ids), layout.grid_index_T)
    assert torch.equal(layout.pick(torch.arange(20)[None]), layout.grid_index_T % 20)
    rows = layout.rows(ids.unsqueeze(-1).float())
    first = layout.first(rows)
    assert torch.equal(first.squeeze(-1).long(), ids[:, 0])
    assert first.stride() == Padded(batch=7, length=20, mask_BL=mask).first(ids.view(-1, 1)).stride()
    row_mask = layout.row_mask()
    assert row_mask is not None
    assert torch.equal(row_mask.squeeze(-1), mask.reshape(-1)[layout.grid_index_T])


@pytest.mark.parametrize("keys", RULES)
def test_every_text_attends_to_its_own_tokens_only(keys: ColumnRule) -> None:
    """Each bucket's queries and keys are rows of the right text and column, or copies that are masked out."""
    mask = odd_mask()
    layout = packed(mask, keys)
    seen = []
    for bucket in layout.buckets:
        query_places = bucket.query_grid(layout.grid_index_T[:, None].float()).squeeze(-1).long()
        key_places = bucket.key_grid(layout.grid_index_T[:, None].float()).squeeze(-1).long()
        assert query_places.shape == (bucket.batch, bucket.queries)
        texts = query_places[:, 0] // 20
        assert torch.equal(texts[:, None].expand_as(key_places), key_places // 20)
        assert torch.equal(texts[:, None].expand_as(query_places), query_places // 20)
        real = (
            torch.ones(bucket.batch, bucket.keys, dtype=torch.bool)
            if bucket.real_BK is None
            else bucket.real_BK
        )
        columns = torch.arange(bucket.keys).expand(bucket.batch, -1)
        assert torch.equal((key_places % 20)[real], columns[real])
        assert torch.equal(real.sum(1), mask[texts].sum(1))
        seen += texts.tolist()
    assert sorted(seen) == list(range(7))


def test_attention_over_buckets_is_attention_over_the_grid() -> None:
    """A planted leak shows, too."""
    mask = mask_of([20, 7, 3, 16], 20)
    layout, grid = packed(mask), Padded(batch=4, length=20, mask_BL=mask)
    q, k, v = torch.randn(3, 4, 20, 8, generator=torch.Generator().manual_seed(0))
    whole = grouped(*(grid.rows(x) for x in (q, k, v)), grid, SPEC)
    few = grouped(*(layout.rows(x) for x in (q, k, v)), layout, SPEC)
    torch.testing.assert_close(layout.grid(few)[mask], grid.grid(whole)[mask])
    for bucket in layout.buckets:
        if bucket.real_BK is not None:
            bucket.real_BK.fill_(True)
    leaking = grouped(*(layout.rows(x) for x in (q, k, v)), layout, SPEC)
    assert not torch.allclose(layout.grid(leaking)[mask], grid.grid(whole)[mask])


def test_texts_of_a_size_form_one_bucket() -> None:
    sizes = [
        (bucket.batch, bucket.queries, bucket.keys)
        for bucket in packed(mask_of([3, 40, 16, 17, 9], 40)).buckets
    ]
    assert sizes == [(3, 16, 16), (1, 32, 32), (1, 40, 40)]
    assert queries_to_16(17, 100) == 32
    assert queries_to_16(17, 20) == 20


def test_key_rules() -> None:
    assert [keys_by_block(n, 2000) for n in (1, 16, 17, 176, 177, 512, 513)] == [
        16,
        16,
        32,
        176,
        512,
        512,
        1024,
    ]
    assert [keys_or_all(n, 300) for n in (1, 176, 177)] == [16, 176, 300]
    assert [keys_to_16(n, 300) for n in (1, 177, 299)] == [16, 192, 300]
    assert whole_grid(3, 300) == 300


def test_key_rules_where_sums_are_cut_into_pieces() -> None:
    """All up to 192 keys, then halves of the grid, then pieces of 192."""
    assert [keys_by_piece(n, 192) for n in (1, 97, 176, 177)] == [16, 112, 176, 192]
    assert [keys_by_piece(n, 200) for n in (1, 100, 101)] == [16, 112, 200]
    assert [keys_by_piece(n, 2000) for n in (96, 192, 193, 513)] == [96, 192, 512, 1024]
    assert [keys_by_piece_or_all(n, 2000) for n in (96, 192, 193, 513)] == [96, 192, 2000, 2000]


def test_cu_seqlens_only_where_rows_are_texts_and_nothing_else() -> None:
    layout = packed(mask_of([3, 5, 2], 6))
    assert layout.cu_seqlens is not None
    assert layout.cu_seqlens.tolist() == [0, 3, 8, 10]
    assert layout.longest == 5
    assert packed(odd_mask()).cu_seqlens is None
    assert packed(mask_of([3, 5, 2], 6), num_rows=16).cu_seqlens is None


def test_rows_that_fill_up() -> None:
    mask = mask_of([3, 5, 2], 6)
    plain, layout = packed(mask), packed(mask, num_rows=16)
    grid = torch.randn(3, 6, 4)
    rows = layout.rows(grid)
    assert layout.num_rows == len(rows) == 16
    assert layout.num_tokens == 10
    assert torch.equal(rows[:10], plain.rows(grid))
    assert torch.equal(rows[10:], rows[:1].expand(6, -1))
    assert torch.equal(layout.grid(rows), plain.grid(rows[:10]))
    out = grouped(rows, rows, rows, layout, spec_of(2, 4))
    assert torch.equal(out[10:], out[:1].expand(6, -1))


@pytest.mark.parametrize("mask", [odd_mask(), mask_of([40, 3, 17, 1], 40)])
def test_only_first_columns(mask: Tensor) -> None:
    """Attention keeps `MIN_QUERIES` queries a text; the outputs are those of the whole."""
    layout = packed(mask)
    few = first_only(layout, num_rows=16)
    assert all(bucket.queries <= MIN_QUERIES for bucket in few.buckets)
    assert few.num_rows == 16
    assert torch.equal(few.grid_index_T[: mask.shape[0]], torch.arange(mask.shape[0]) * mask.shape[1])
    rows = layout.rows(torch.randn(*mask.shape, 8))
    whole = grouped(rows, rows, rows, layout, SPEC)
    part = grouped(rows, rows, rows, few, SPEC)
    torch.testing.assert_close(part[: mask.shape[0]], layout.first(whole), equal_nan=True)
    assert torch.equal(few.first(few.queries(rows)), layout.first(rows))


def test_some_rows() -> None:
    layout = packed(mask_of([4, 9, 6], 9))
    needed = torch.tensor([18, 2, 7])
    few = select(layout, needed, num_rows=5)
    rows = layout.rows(torch.randn(3, 9, 8))
    assert torch.equal(few.queries(rows), rows[[18, 2, 7, 0, 0]])
    assert torch.equal(few.grid_index_T, layout.grid_index_T[[18, 2, 7, 0, 0]])
    assert few.num_tokens == 3
    whole = grouped(rows, rows, rows, layout, SPEC)
    assert torch.equal(grouped(rows, rows, rows, few, SPEC)[:3], whole[needed])
    assert select(layout, needed[:0], num_rows=2).num_tokens == 0


@pytest.mark.parametrize("mask", [odd_mask(), mask_of([40, 3, 17, 1], 40), mask_of([5, 5], 9)])
def test_the_index_is_the_buckets(mask: Tensor) -> None:
    """What compiled layers are given says the same as the objects, narrowed or not."""
    layout = packed(mask)
    for each in (layout, first_only(layout, num_rows=16), select(layout, torch.tensor([2, 0]))):
        assert len(each.index.sizes) >= 2
        found = each.index.buckets
        assert len(found) == len(each.buckets)
        rows = torch.randn(layout.num_rows, 3)
        for one, other in zip(found, each.buckets, strict=True):
            assert (one.batch, one.queries, one.keys) == (other.batch, other.queries, other.keys)
            assert torch.equal(one.query_grid(rows), other.query_grid(rows))
            assert torch.equal(one.key_grid(rows), other.key_grid(rows))
            assert one.real_BK is not None
            assert torch.equal(
                one.real_BK, torch.ones_like(one.real_BK) if other.real_BK is None else other.real_BK
            )
