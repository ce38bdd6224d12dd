"""The columns of prompts that were padded on the left: which of their rows are computed.

Linears see the rows of real tokens only. Attention sees texts by buckets of about one length: the last
columns of each, padding there filled up with copies of a row of the text and masked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from biject.config.layers import AttentionSpec, MaskKind
from biject.nn.exact import attention_holds, min_rows
from biject.nn.kernels import Numerics, whole_grid
from biject.nn.kv_cache import EVEN_BYTES, KVCache
from biject.nn.layout import AttentionBucket, Packed
from biject.nn.masks import attention_mask
from biject.nn.packing import ColumnRule, queries_to_16, select, to_device
from biject.nn.plan import AttentionModule, KeyValues
from biject.nn.planner import WORTH_IT
from biject.nn.rowwise import row_ops
from biject.nn.transformer import Transformer


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedPrompt:
    """The rows of one call without its padding."""

    layout: Packed
    last: Packed
    """Of the last layer: the rows of each text's last column, in the order of texts."""
    texts: tuple[Tensor, ...]
    """Of each bucket, which texts it holds."""

    def cache(self, kept: KVCache) -> KeyValues:
        """What the layers of this call put their keys and values into."""
        return _ByBucket(self, kept)


class _ByBucket:
    """Puts keys and values into a cache, bucket by bucket; each bucket looks at its own."""

    def __init__(self, prompt: PackedPrompt, kept: KVCache) -> None:
        self.prompt, self.kept, self.bucket = prompt, kept, 0
        self.grid = torch.empty(0)

    def update(self, attention: AttentionModule, k_BGKE: Tensor, v_BGKE: Tensor) -> tuple[Tensor, Tensor]:
        """See `KeyValues`: called once a layer for each bucket, in their order."""
        layout, keys = self.prompt.layout, k_BGKE.shape[2]
        if self.bucket == 0:  # zeros: what is masked is still multiplied by nothing
            shape = (2, layout.batch, k_BGKE.shape[1], layout.length, k_BGKE.shape[3])
            self.grid = k_BGKE.new_zeros(shape)
        texts = self.prompt.texts[self.bucket]
        self.grid[0, texts, :, layout.length - keys :] = k_BGKE
        self.grid[1, texts, :, layout.length - keys :] = v_BGKE
        self.bucket += 1
        if self.bucket == len(self.prompt.texts):
            self.kept.update(attention, self.grid[0], self.grid[1])
            self.bucket = 0
        return k_BGKE.contiguous(), v_BGKE.contiguous()


def masks(kind: MaskKind, layout: Packed) -> tuple[Tensor | None, ...]:
    """Of each bucket, whose queries are the last columns of its keys."""
    return tuple(
        attention_mask(
            kind, one.real_BK, batch=one.batch, queries=one.queries, keys=one.keys,
            device=layout.mask_BL.device, past=one.keys - one.queries, always=True,
        )
        for one in layout.buckets
    )  # fmt: skip


def packed_prompt(model: Transformer, real_BL: Tensor, numerics: Numerics) -> PackedPrompt | None:
    """Prompts without their padding; None where that is not worth it, or would change bits that are to stay.

    Args:
        model: a decoder.
        real_BL: True where a column holds a token; the last one of each text does.
        numerics: `exact`: bits are to stay.
    """
    batch, length = real_BL.shape
    total, count = batch * length, int(real_BL.sum())
    if model.planner.layout == "padded" or count > WORTH_IT * total or _needs_grid(model):
        return None
    exact, num_rows, num_last = numerics == "exact", count, batch
    if exact:
        if any(_by_place(spec, model.dtype) for spec in model.attention_specs):
            return None
        ops = row_ops(model.row_modules)
        found = [min_rows(ops, n, total, model.dtype) for n in (count, batch)]
        if found[0] is None or found[1] is None or found[0] > WORTH_IT * total:
            return None
        num_rows, num_last = found[0], found[1]
    queries = whole_grid if exact and not _queries_hold(model) else queries_to_16
    layout, texts = _pack(real_BL, queries, whole_keys=exact, num_rows=num_rows)
    last_B = real_BL.sum(1).cumsum(0) - 1
    last = select(layout if exact else _last_queries(layout, texts, last_B), last_B, num_rows=num_last)
    device = model.device
    return PackedPrompt(
        layout=_moved(layout, device), last=_moved(last, device), texts=tuple(x.to(device) for x in texts)
    )


def _needs_grid(model: Transformer) -> bool:
    return any(layer.chunk_size for layer in model.layers) or any(
        spec.upcast or not spec.causal for spec in model.attention_specs
    )


def _by_place(spec: AttentionSpec, dtype: torch.dtype) -> bool:
    """Whether bits of attention depend on where heads begin in memory, or on the grid that is written out."""
    return spec.head_dim * dtype.itemsize % EVEN_BYTES != 0 or spec.softcap is not None


def _queries_hold(model: Transformer) -> bool:
    """Whether fewer queries have the bits of the whole grid's."""
    specs = {(one.operation, one.spec) for one in model.attentions}
    kinds = {(operation, spec.head_dim, spec.window, spec.softcap) for operation, spec in specs}
    return all(
        attention_holds(operation, whole_grid, head_dim, model.dtype, window=window, softcap=softcap)
        for operation, head_dim, window, softcap in sorted(kinds, key=str)
    )


def _pack(
    real_BL: Tensor, columns: ColumnRule, *, whole_keys: bool, num_rows: int
) -> tuple[Packed, tuple[Tensor, ...]]:
    """The layout, and which texts each of its buckets holds.

    Args:
        real_BL: (B, L), True where a token is real.
        columns: how many columns of a text ask.
        whole_keys: every bucket looks at all columns, as in HF's grid.
        num_rows: compute at least so many rows; the first one is repeated.
    """
    batch, length = real_BL.shape
    grid_index_T = real_BL.reshape(-1).nonzero().squeeze(-1)
    count = grid_index_T.shape[0]
    row_BL = torch.full((batch * length,), -1)
    row_BL[grid_index_T] = torch.arange(count)
    row_BL = row_BL.view(batch, length)
    row_BL = torch.where(real_BL, row_BL, row_BL[:, -1:])
    spans = [columns(length - first, length) for first in real_BL.int().argmax(1).tolist()]
    buckets, texts, place_BL, base = [], [], torch.zeros(batch, length, dtype=torch.long), 0
    for queries in sorted(set(spans)):
        here = torch.tensor([text for text, span in enumerate(spans) if span == queries])
        keys = length if whole_keys else queries
        real_BK = real_BL[here, length - keys :]
        buckets.append(
            AttentionBucket(
                batch=len(here),
                queries=queries,
                keys=keys,
                query_rows=row_BL[here, length - queries :].reshape(-1),
                key_rows=row_BL[here, length - keys :].reshape(-1),
                real_BK=None if bool(real_BK.all()) else real_BK,
            )
        )
        places = base + torch.arange(len(here) * queries).view(-1, queries)
        place_BL[here, length - queries :] = places
        texts.append(here)
        base += len(here) * queries
    place_T = place_BL.view(-1)[grid_index_T]
    fill = max(0, num_rows - count)
    layout = Packed(
        batch=batch,
        length=length,
        mask_BL=real_BL,
        grid_index_T=torch.cat([grid_index_T, grid_index_T[:1].expand(fill)]),
        num_tokens=count,
        first_B=row_BL[:, 0],
        index=None,
        buckets=tuple(buckets),
        unsort_index_T=torch.cat([place_T, place_T[:1].expand(fill)]),
        query_places=None,
        key_places=None,
        longest=length,
    )
    return layout, tuple(texts)


def _last_queries(layout: Packed, texts: tuple[Tensor, ...], last_B: Tensor) -> Packed:
    """The same where each text's last column alone asks: `last_B` are their rows."""
    place_T, base, buckets = torch.zeros(layout.num_rows, dtype=torch.long), 0, []
    for bucket, here in zip(layout.buckets, texts, strict=True):
        rows = last_B[here]
        place_T[rows] = base + torch.arange(bucket.batch)
        base += bucket.batch
        buckets.append(replace(bucket, queries=1, query_rows=rows))
    return replace(layout, buckets=tuple(buckets), unsort_index_T=place_T)


def _moved(layout: Packed, device: torch.device) -> Packed:
    found = to_device(layout, device)
    assert isinstance(found, Packed)
    return found
