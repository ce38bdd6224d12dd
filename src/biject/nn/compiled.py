"""Attention of a packed batch as one operation that compilers do not look into.

Buckets are as many and as large as a batch's texts have it, so that a compiled loop over them would be
compiled anew for each batch. Inside this operation they are a loop again, with the kernels of `attend.py`.
Its backward pass computes the forward pass once more, with the same random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from biject.config.layers import AttentionSpec
from biject.nn.attend import attend, attend_written_out, merge_heads, split_heads
from biject.nn.layout import BucketIndex, Packed
from biject.nn.masks import bucket_mask
from biject.nn.plan import BatchPlan
from biject.nn.relative import PositionHeads, RelativeScores, attend_relative


def attend_opaque(
    q_THE: Tensor,
    k_TGE: Tensor,
    v_TGE: Tensor,
    plan: BatchPlan,
    spec: AttentionSpec,
    relative: RelativeScores | None,
    positions: PositionHeads,
    *,
    dropout: float,
) -> Tensor:
    """The context of all rows that the plan's layout needs, (T, H·E); `positions` are those of `relative`."""
    layout = plan.layout
    assert isinstance(layout, Packed)
    index = layout.index
    assert index is not None, "the plan was made before torch.compile was called: make it anew"
    context_TD, _ = torch.ops.biject.attend_packed(
        q_THE, k_TGE, v_TGE, positions.keys, positions.queries, plan.distances,
        index.sizes, index.query_rows, index.key_rows, index.real, layout.unsort_index_T,
        spec.causal, spec.window or 0, spec.mask_queries, spec.scale, dropout,
        relative.relative.span if relative else 0, relative.terms if relative else 0,
        spec.written_out, spec.softmax == "float32", spec.softcap or 0.0,
        -1 if positions.first is None else positions.first,
    )  # fmt: skip
    assert isinstance(context_TD, Tensor)
    return context_TD


def _context(
    q: Tensor, k: Tensor, v: Tensor, pos_k: Tensor | None, pos_q: Tensor | None, distances: Tensor | None,
    sizes: Tensor, query_rows: Tensor, key_rows: Tensor, real: Tensor, unsort: Tensor,
    causal: bool, window: int, mask_queries: bool, scale: float, dropout: float, span: int, terms: int,
    written_out: bool, float32: bool, softcap: float, first: int,
) -> Tensor:  # fmt: skip
    spec = AttentionSpec(
        num_heads=q.shape[1], num_key_value_heads=k.shape[1], head_dim=q.shape[2], scale=scale,
        causal=causal, window=window or None, mask_queries=mask_queries,
        softmax="float32" if float32 else "own", softcap=softcap or None,
    )  # fmt: skip
    contexts, positions = [], PositionHeads(pos_k, pos_q, None if first < 0 else first)
    index = BucketIndex(sizes=sizes, query_rows=query_rows, key_rows=key_rows, real=real)
    for bucket in index.buckets:
        mask = bucket_mask(spec.mask_kind, bucket, device=q.device, always=True)
        queries, keys, values = (
            split_heads(take(x.flatten(1)), x.shape[1]).transpose(1, 2)
            for take, x in ((bucket.query_grid, q), (bucket.key_grid, k), (bucket.key_grid, v))
        )
        if terms:
            context, _ = attend_relative(
                queries, keys, values,
                mask=mask, positions=positions, distances=distances,
                span=span, terms=terms, dropout=dropout,
            )  # fmt: skip
        elif written_out:
            context, _ = attend_written_out(queries, keys, values, mask=mask, spec=spec, dropout=dropout)
        else:
            context = attend(queries, keys, values, mask=mask, spec=spec, dropout=dropout)
        contexts.append(merge_heads(context).flatten(0, 1))
    return torch.cat(contexts).index_select(0, unsort)


_INPUTS = (
    "Tensor q, Tensor k, Tensor v, Tensor? pos_k, Tensor? pos_q, Tensor? distances, Tensor sizes, "
    "Tensor query_rows, Tensor key_rows, Tensor real, Tensor unsort, bool causal, int window, "
    "bool mask_queries, float scale, float dropout, int span, int terms, bool written_out, bool float32, "
    "float softcap, int first"
)
_TRAINED = 5
"""The first inputs, which have gradients."""
_CPU_STATE_BYTES = torch.get_rng_state().numel()


@torch.library.custom_op("biject::attend_packed", mutates_args=(), schema=f"({_INPUTS}) -> (Tensor, Tensor)")
def _attend_packed(*inputs: Any) -> tuple[Tensor, Tensor]:
    """The context, and the state of the random numbers before it where there is dropout."""
    state = _random_state(inputs[0], inputs[15])
    return _context(*inputs).contiguous(), state


@_attend_packed.register_fake
def _(*inputs: Any) -> tuple[Tensor, Tensor]:
    q, unsort, dropout = inputs[0], inputs[10], inputs[15]
    context = q.new_empty(unsort.shape[0], q.shape[1] * q.shape[2])
    size = 0 if dropout == 0 else 16 if q.is_cuda else _CPU_STATE_BYTES
    return context, torch.empty(size, dtype=torch.uint8, device="cpu")


@torch.library.custom_op(
    "biject::attend_packed_backward",
    mutates_args=(),
    schema=f"(Tensor grad, Tensor state, {_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _attend_packed_backward(grad: Tensor, state: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    q = inputs[0]
    trained: list[Any] = [x if x is None else x.detach().requires_grad_() for x in inputs[:_TRAINED]]
    devices = [q.device] if q.is_cuda else []
    with torch.random.fork_rng(devices, enabled=bool(state.numel())), _autograd():
        if state.numel():
            _set_random_state(q, state)
        context = _context(*trained, *inputs[_TRAINED:])
        found = torch.autograd.grad(context, [x for x in trained if x is not None], grad)
    gradients = iter(found)
    return tuple(q.new_empty(0) if x is None else next(gradients).contiguous() for x in trained)


@contextmanager
def _autograd() -> Iterator[None]:
    """Record gradients inside an operation, where torch has turned that off."""
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for name in ("AutogradFunctionality", "AutogradOther", "AutogradNestedTensor", "ADInplaceOrView"):
        excluded = excluded.remove(getattr(torch._C.DispatchKey, name))
    included = torch._C._dispatch_tls_local_include_set()
    with torch._C._ForceDispatchKeyGuard(included, excluded), torch.enable_grad():
        yield


@_attend_packed_backward.register_fake
def _(grad: Tensor, state: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    like = inputs[:_TRAINED]
    return tuple(inputs[0].new_empty(0) if x is None else x.new_empty(x.shape) for x in like)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.is_tensor = [isinstance(x, Tensor) for x in inputs]
    ctx.numbers = [None if isinstance(x, Tensor) else x for x in inputs]
    ctx.save_for_backward(output[1], *(x for x in inputs if isinstance(x, Tensor)))


def _gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    state, *tensors = ctx.saved_tensors
    given = iter(tensors)
    inputs = [
        next(given) if is_tensor else x for is_tensor, x in zip(ctx.is_tensor, ctx.numbers, strict=True)
    ]
    found = torch.ops.biject.attend_packed_backward(grad, state, *inputs)
    trained = (g if is_tensor else None for g, is_tensor in zip(found, ctx.is_tensor[:_TRAINED], strict=True))
    return (*trained, *(None,) * (len(inputs) - _TRAINED))


_attend_packed.register_autograd(_gradients, setup_context=_save)


def _random_state(q: Tensor, dropout: float) -> Tensor:
    """What the next random numbers depend on; empty where none are drawn."""
    if dropout == 0:
        return torch.empty(0, dtype=torch.uint8)
    return torch.cuda.get_rng_state(q.device) if q.is_cuda else torch.get_rng_state()


def _set_random_state(q: Tensor, state: Tensor) -> None:
    if q.is_cuda:
        torch.cuda.set_rng_state(state, q.device)
    else:
        torch.set_rng_state(state)
