"""The part of a plan that says where tokens stand: masks, rotary positions, distances."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from biject.config.layers import MaskKind
from biject.config.rope import RopeConfig
from biject.nn.batch import Batch, HeadRequest
from biject.nn.exact import columns_hold, min_rows
from biject.nn.layout import Layout, Packed
from biject.nn.masks import bucket_mask, joined_texts_mask
from biject.nn.plan import PlannedModel
from biject.nn.relative import Rows, near_rows, relative_distances
from biject.nn.rowwise import RowOp

Masks = Mapping[MaskKind, tuple[Tensor | None, ...]]


def attention_masks(model: PlannedModel, batch: Batch, request: HeadRequest, layout: Layout) -> Masks:
    """By kind, the mask of each of the layout's buckets."""
    specs, device = model.attention_specs, model.device
    joined = {} if isinstance(layout, Packed) else _joined_texts(model, batch)  # such rows are never packed
    # HF's padded grid has a mask where a causal packed batch could do without.
    always = isinstance(layout, Packed) or request.attentions or any(spec.by_steps for spec in specs)
    return {
        kind: (joined[kind],)
        if joined.get(kind) is not None
        else tuple(bucket_mask(kind, bucket, device=device, always=always) for bucket in layout.buckets)
        for kind in dict.fromkeys(spec.mask_kind for spec in specs)
    }


def joins_texts(model: PlannedModel, batch: Batch) -> bool:
    """Whether rows of the batch hold several texts, which masks over HF's whole grid keep apart."""
    return any(mask is not None for mask in _joined_texts(model, batch).values())


def _joined_texts(model: PlannedModel, batch: Batch) -> dict[MaskKind, Tensor | None]:
    """Masks of rows that hold several texts, where HF looks for them: in causal models without a mask that
    use no cache, as in training with checkpointing.
    """
    if reads_cache(model) or batch.attention_mask is not None or batch.position_ids is None:
        return {}
    positions_BL = batch.position_ids.expand(batch.shape)
    kinds = dict.fromkeys(spec.mask_kind for spec in model.attention_specs if spec.causal)
    return {kind: joined_texts_mask(kind, positions_BL) for kind in kinds}


def rope_rows(
    model: PlannedModel, batch: Batch, layout: Layout
) -> Mapping[RopeConfig, tuple[Tensor, Tensor]]:
    """Cosines and sines of every row, (T, E) each.

    Positions are 0, 1, 2, … along the columns where none are given, whatever is padding, as HF counts.
    """
    configs = dict.fromkeys(one.rope for one in model.attentions if one.rope is not None)
    if not configs:
        return {}
    positions = batch.position_ids
    if positions is None:
        positions = torch.arange(layout.length, device=model.device)[None]
    dtype = model.dtype if batch.inputs_embeds is None else batch.inputs_embeds.dtype
    found = {}
    for config in configs:
        cos, sin = model.rotary(config)(positions, dtype)
        shape = (layout.batch, layout.length, cos.shape[-1])
        found[config] = (layout.rows(cos.expand(shape)), layout.rows(sin.expand(shape)))
    return found


def distances(model: PlannedModel, layout: Layout) -> Tensor | None:
    """Of all columns to each other, where the model has a table for them."""
    table = model.config.relative_table
    return None if table is None else relative_distances(layout.length, table, model.device)


def near_positions(
    model: PlannedModel,
    distances: Tensor | None,
    *,
    ops: frozenset[RowOp] | None,
    keep_bits: bool,
    dtype: torch.dtype,
) -> Rows | None:
    """The rows of the table that a packed batch looks at, or more of them where bits need that; None for all.

    Args:
        model: has `relative_table`, or there is nothing to leave out.
        distances: see `distances`.
        ops: what layers compute row by row.
        keep_bits: scores are to have the bits that they have with the whole table.
        dtype: what is computed in.
    """
    table = model.config.relative_table
    if table is None or distances is None or not table.in_order:
        return None
    columns, whole = distances.shape[-1], 2 * table.span
    near = near_rows(distances, table.span, columns, columns)
    if not keep_bits:
        return near
    needed = min_rows(ops, near.end - near.first, whole, dtype)
    if needed is None or not all(
        columns_hold(one.head_dim, table.span, dtype) for one in model.attention_specs
    ):
        return None
    first = max(0, min(near.first, whole - needed))
    return Rows(first, max(near.end, first + needed))


def reads_cache(model: PlannedModel) -> bool:
    """Whether HF's layers get keys and values from a cache (`use_cache`), though nothing is generated."""
    recomputed = model.gradient_checkpointing and model.training
    return not model.config.split_at_jumps and not recomputed
