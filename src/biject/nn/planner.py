"""From a batch to its `BatchPlan`: the layout, the kernels, and how many rows each step has to compute.

Everything is decided on the CPU, from one copy of the masks to it; what layers read then goes to the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from biject.events import notice
from biject.nn.batch import Batch, HeadRequest, HeadRows
from biject.nn.exact import attention_holds, min_rows
from biject.nn.kernels import Kernel, Numerics, Operation, kernel, whole_grid
from biject.nn.layout import Layout, Packed, Padded
from biject.nn.packing import ColumnRule, first_only, pack, select, spans, to_device
from biject.nn.plan import BatchPlan, PlannedModel
from biject.nn.positions import (
    attention_masks,
    distances,
    joins_texts,
    near_positions,
    reads_cache,
    rope_rows,
)
from biject.nn.rowwise import RowOp, row_ops
from biject.nn.traces import tracing
from biject.nn.uncompiled import left_alone

LayoutName = Literal["packed", "padded"]

WORTH_IT = 0.95
"""A batch that would keep more of its grid than this is computed as it is."""


Ops = frozenset[RowOp] | None


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """How the rows of one batch are computed."""

    layout: Layout
    """Its indices on the CPU."""
    kernels: Mapping[Operation, Kernel]
    keep_bits: bool
    dtype: torch.dtype
    layer_ops: Ops = None
    few_queries: bool = True
    """Whether attention may leave out queries."""
    own_draws: bool = False
    """Random numbers of dropout need not be HF's."""


class _Facts:
    """A model's attributes, each looked up once a call: through a module's own look-up they take a while."""

    def __init__(self, model: PlannedModel) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._model, name)
        self.__dict__[name] = value
        return value


class Planner:
    """Plans the calls of one model.

    Args:
        layout: `packed`, or `padded` for all of HF's rows.
        numerics: `exact`, `fast`, or None: exact on the CPU, fast elsewhere.
    """

    def __init__(self, layout: LayoutName = "packed", numerics: Numerics | None = None) -> None:
        self.layout, self.numerics = layout, numerics
        self._reported = False

    @left_alone
    def __call__(self, model: PlannedModel, batch: Batch, request: HeadRequest) -> BatchPlan:
        """The plan of one call.

        Raises:
            InputError: arguments contradict each other.
        """
        model = cast(PlannedModel, _Facts(model))
        batch.check()
        head_rows = model.head.rows(batch, request, packed=self.layout == "packed")
        mask_BL, read_BL = _on_cpu(batch.attention_mask, head_rows.read_BL)
        mask_BL = None if mask_BL is None or bool(mask_BL.all()) else mask_BL
        whole = request.attentions or _reads_padding(head_rows, mask_BL, read_BL)
        joined = joins_texts(model, batch)
        choice = self._choose(model, batch, mask_BL, whole=whole, all_rows=not head_rows.some, joined=joined)
        layout, device = choice.layout, model.device
        head_ops = model.head.row_kernels() if choice.keep_bits else None
        grid_index_K = None
        if head_rows.some:
            assert read_BL is not None
            grid_index_K = read_BL.reshape(-1).nonzero().squeeze(-1)
        row_index_K = _row_index(layout, grid_index_K)
        traced = tracing() or bool(request.trace_names)
        last = layout if traced else _last_layout(model, choice, head_rows, head_ops, row_index_K)
        here = to_device(layout, device)
        apart = distances(model, here)
        near = None
        if isinstance(layout, Packed):
            near = near_positions(
                model, apart, ops=choice.layer_ops, keep_bits=choice.keep_bits, dtype=choice.dtype
            )
        plan = BatchPlan(
            batch=batch,
            request=request,
            layout=here,
            kernels=choice.kernels,
            masks=attention_masks(model, batch, request, here),
            rope=rope_rows(model, batch, here),
            distances=apart,
            near_positions=near,
            relative_table=None if model.relative is None else model.relative(),
            joined=joined,
            contiguous_keys=isinstance(layout, Padded) and reads_cache(model),
            total=layout.batch * layout.length,
            exact=choice.keep_bits and isinstance(layout, Packed),
            keep_bits=choice.keep_bits,
            own_draws=choice.own_draws,
            head_ops=head_ops,
            dtype=choice.dtype,
            grid_index_K=None if grid_index_K is None else grid_index_K.to(device),
            row_index_K=None if row_index_K is None else row_index_K.to(device),
        )
        if last is layout:
            return plan
        there = to_device(last, device)
        masks = attention_masks(model, batch, request, there)
        return replace(plan, final=replace(plan, layout=there, masks=masks, narrowed=True))

    def _choose(
        self,
        model: PlannedModel,
        batch: Batch,
        mask_BL: Tensor | None,
        *,
        whole: bool,
        all_rows: bool,
        joined: bool,
    ) -> _Choice:
        """The layout (on the CPU) and what is known of its bits.

        `all_rows`: the head reads all rows, not only some of them.
        """
        device, (size, length) = model.device, batch.shape
        numerics = self.numerics or ("exact" if device.type == "cpu" else "fast")
        draws = model.training and draws_random_numbers(model)
        bits = numerics == "exact" and device.type == "cpu" and not draws
        padded = _Choice(
            layout=Padded(batch=size, length=length, mask_BL=None if mask_BL is None else _real(batch)),
            kernels=_kernels(model, device, numerics),
            keep_bits=bits,
            dtype=_compute_dtype(model),
        )
        if self.layout == "padded" or whole or _needs_grid(model):
            return padded
        own_draws = draws and device.type == "cpu"
        if mask_BL is None and own_draws and not joined:
            mask_BL = torch.ones(size, length, dtype=torch.bool)
        if mask_BL is None:
            return padded
        kept, total = spans(mask_BL), size * length
        count = sum(kept)
        rows_at_once = numerics == "fast" and device.type == "cpu" and torch.is_inference_mode_enabled()
        if (
            count > (1.0 if rows_at_once else WORTH_IT) * total and not own_draws
        ):  # without buckets packing costs nothing
            return padded
        if bits:
            return self._exact(model, mask_BL, kept, padded, all_rows=all_rows)
        kernels = _kernels(model, device, "fast" if device.type == "cpu" else numerics)
        layout = pack(mask_BL, kept, _keys(kernels))
        return replace(padded, layout=layout, kernels=kernels, own_draws=own_draws)

    def _exact(
        self, model: PlannedModel, mask_BL: Tensor, kept: list[int], padded: _Choice, *, all_rows: bool
    ) -> _Choice:
        """Packed so that bits are kept, or `padded` where that leaves out too little."""
        total, ops = mask_BL.numel(), row_ops(model.row_modules)
        rows = min_rows(ops, sum(kept), total, padded.dtype)
        if rows is not None and all_rows:
            rows = min_rows(model.head.row_kernels(), rows, total, padded.dtype)
        if rows is None or rows > WORTH_IT * total:
            if padded.dtype is torch.float32:  # in less, nobody compares bits
                self._report(sum(kept), total)
            return padded
        exact = _exact_kernels(model, padded)
        if exact is not None:
            layout = pack(mask_BL, kept, _keys(exact), num_rows=rows)
            return replace(padded, layout=layout, layer_ops=ops)
        layout = pack(mask_BL, kept, whole_grid, queries=whole_grid, num_rows=rows)
        return replace(padded, layout=layout, layer_ops=ops, few_queries=False)

    def _report(self, count: int, total: int) -> None:
        """Once a model, when bits are the reason."""
        if self._reported or total <= 64:
            return
        self._reported = True
        notice(
            "packing-withdrawn",
            f"{count} of {total} rows hold tokens, but this machine's kernels give them other bits when "
            "fewer are computed, so all are computed, as in HF. numerics='fast' leaves padding out.",
        )


def _last_layout(
    model: PlannedModel, choice: _Choice, head_rows: HeadRows, head_ops: Ops, row_index_K: Tensor | None
) -> Layout:
    """The layout of the last layer: without the rows that nobody reads."""
    layout = choice.layout
    if not isinstance(layout, Packed) or model.layers[model.config.layer_order[-1]].conv is not None:
        return layout
    total = layout.batch * layout.length

    def rows(count: int, *ops: Ops) -> int | None:
        found: int | None = max(count, 1)
        for each in ops if choice.keep_bits else ():
            found = None if found is None else min_rows(each, found, total, choice.dtype)
        return None if found is None or found >= layout.num_rows else found

    if head_rows.first and choice.few_queries:
        count = rows(layout.batch, choice.layer_ops)
        return layout if count is None else first_only(layout, num_rows=count)
    if row_index_K is not None:
        count = rows(row_index_K.shape[0], choice.layer_ops, head_ops)
        return layout if count is None else select(layout, row_index_K, num_rows=count)
    return layout


def _row_index(layout: Layout, grid_index_K: Tensor | None) -> Tensor | None:
    """Which of the layout's rows stand at these places of the grid."""
    if grid_index_K is None or not isinstance(layout, Packed):
        return grid_index_K
    where_G = torch.zeros(layout.batch * layout.length, dtype=torch.long)
    where_G[layout.grid_index_T[: layout.num_tokens]] = torch.arange(layout.num_tokens)
    return where_G.index_select(0, grid_index_K)


def _on_cpu(mask_BL: Tensor | None, read_BL: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Both as booleans on the CPU; one transfer, which is all that a plan waits for."""
    given = [x.to(torch.bool) for x in (mask_BL, read_BL) if x is not None]
    if given and given[0].device.type != "cpu":
        given = list(torch.stack(given).cpu())
    found = iter(given)
    return tuple(None if x is None else next(found) for x in (mask_BL, read_BL))  # type: ignore[return-value]


def _real(batch: Batch) -> Tensor:
    assert batch.attention_mask is not None
    return batch.attention_mask.to(torch.bool)


def _reads_padding(head_rows: HeadRows, mask_BL: Tensor | None, read_BL: Tensor | None) -> bool:
    """Whether the head reads rows of padding, so that all of HF's rows are needed."""
    if mask_BL is None:
        return False
    return head_rows.whole or (read_BL is not None and bool((read_BL & ~mask_BL).any()))


def _needs_grid(model: PlannedModel) -> bool:
    """Whether layers compute something that only HF's grid gives."""
    return any(layer.chunk_size for layer in model.layers) or any(
        spec.upcast for spec in model.attention_specs
    )


def _compute_dtype(model: PlannedModel) -> torch.dtype:
    kind = model.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else model.dtype


def _kernels(model: PlannedModel, device: torch.device, numerics: Numerics) -> Mapping[Operation, Kernel]:
    operations = dict.fromkeys(attention.operation for attention in model.attentions)
    return {operation: kernel(operation, device, numerics) for operation in operations}


def _keys(kernels: Mapping[Operation, Kernel]) -> ColumnRule:
    """How many keys suffice for all of the kernels."""
    rules = {each.keys for each in kernels.values()}
    if len(rules) == 1:
        return rules.pop()
    return lambda tokens, length: max(rule(tokens, length) for rule in rules)


def _exact_kernels(model: PlannedModel, choice: _Choice) -> Mapping[Operation, Kernel] | None:
    """The kernels with the first of their key rules by which buckets attend with the bits of the whole grid;
    None where one has no such rule.
    """
    kinds = {
        (one.operation, one.spec.head_dim, one.spec.window, one.spec.softcap) for one in model.attentions
    }
    found = {}
    for operation, row in choice.kernels.items():
        mine = sorted((kind for kind in kinds if kind[0] == operation), key=str)
        for keys in (row.keys, *row.other_keys):
            if all(
                attention_holds(operation, keys, head_dim, choice.dtype, window=window, softcap=softcap)
                for _, head_dim, window, softcap in mine
            ):
                found[operation] = replace(row, keys=keys)
                break
        else:
            return None
    return found


def draws_random_numbers(model: PlannedModel) -> bool:
    """Whether training draws random numbers, so that there are no bits to keep."""
    return any(
        (module.p if isinstance(module, nn.Dropout) else getattr(module, "dropout_rate", 0.0)) > 0
        for module in model.modules()
    )
