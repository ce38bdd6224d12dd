"""FSDP2: every layer, the embeddings and the head of a model spread over all ranks. The engine is torch's."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from biject.distributed.ending import let_go_at_exit


def shard(model: nn.Module, *, dtype: torch.dtype | None = None, offload: bool = False) -> None:
    """Spread a model's parameters over ranks, in place; each keeps its part, and gathers layer by layer.

    Parts are copied out of the model's tensors: of a mapped file each rank reads no more than its own.

    Args:
        model: ours, or any module whose layers are in its largest `nn.ModuleList`.
        dtype: what is computed in; parts and sums of gradients stay in the parameters' own.
        offload: keep parts in the CPU's memory, and update them there.
    """
    let_go_at_exit()
    on_cpu = next(model.parameters()).device.type == "cpu"
    if on_cpu:
        _give_freed_memory_back()
    pinned = torch.cuda.is_available()  # pages that a GPU reads by itself; without one torch fails
    options: dict[str, Any] = {
        "mp_policy": MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32 if dtype else None),
        "offload_policy": CPUOffloadPolicy(pin_memory=pinned) if offload else OffloadPolicy(),
    }
    for part in parts(model):
        for module in part if isinstance(part, list) else [part]:
            module.register_forward_hook(_no_view)  # before FSDP2's own, which looks at what it returns
        fully_shard(part, **options)
    fully_shard(model, **options)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # losses are divided by the items of all ranks already
            module.set_force_sum_reduction_for_comms(True)  # Gloo has no other
            if on_cpu:
                _gather_when_needed(module)


def _no_view(module: nn.Module, args: Any, output: Any) -> Any:
    """A copy in place of a view (rows of a grid): FSDP2 hangs its backward pass on what a part returns, which
    an operation in place on a view would lose; it warns of every view.
    """
    if isinstance(output, Tensor) and output.requires_grad and output._is_view():
        return output.clone()
    return output


def _gather_when_needed(module: FSDPModule) -> None:
    """Gather a part when its turn comes, and let go of what it came in at once: nothing overlaps on a CPU.

    By itself FSDP2 gathers the next part of a backward pass ahead, and keeps what a part of a forward pass
    came in until the next one's: each a whole part more at the peak. The first list must not be empty, and a
    part that is gathered already costs nothing.
    """
    module.set_modules_to_backward_prefetch([module])
    module._set_unshard_async_op(True)


def _give_freed_memory_back() -> None:
    """Let glibc map every tensor of 256 KiB and more by itself: a gathered layer is given back then.

    glibc raises that limit to the size of what was freed, up to 32 MiB, and keeps the rest in heaps that
    gathered layers of several sizes break into pieces: a rank of four held 0.8 of a model of 2 GB in a
    forward pass. Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(-3, 256 << 10)


def parts(model: nn.Module) -> list[Any]:
    """What is gathered at once: layers, then embeddings and head, together where they share weights."""
    lists: list[Any] = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    layers: list[Any] = list(max(lists, key=lambda found: len(found), default=nn.ModuleList()))
    named = [getattr(model, name, None) for name in ("embed", "head")]
    ends: list[Any] = [part for part in named if part is not None and any(True for _ in part.parameters())]
    owners = [{id(p) for p in part.parameters()} for part in ends]
    if len(ends) == 2 and owners[0] & owners[1]:
        return [*layers, ends]
    return [*layers, *ends]


def is_sharded(model: nn.Module) -> bool:
    """Whether parameters are spread over ranks."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def like(target: Tensor, whole: Tensor) -> Tensor:
    """A tensor that every rank has the whole of, spread as `target` is; nothing is sent."""
    if not isinstance(target, DTensor) or whole.shape != target.shape:
        return whole
    whole = whole.to(device=target.to_local().device)
    return distribute_tensor(whole, target.device_mesh, target.placements, src_data_rank=None)


def put(target: Tensor, whole: Tensor) -> None:
    """Copy a value that every rank has the whole of into a tensor that may be spread."""
    if isinstance(target, DTensor):
        part = like(target, whole)
        assert isinstance(part, DTensor)
        target.to_local().copy_(part.to_local())
    else:
        target.copy_(whole)


def mesh_of(group: Any) -> Any:
    """Another group of the same ranks, on CPUs, as what copies of spread tensors are spread over."""
    return DeviceMesh.from_group(group, "cpu")


def copied(mesh: Any) -> Callable[[Tensor], Tensor]:
    """Copies tensors to the CPU; each tensor once, so that tied ones stay tied.

    Args:
        mesh: what copies of this rank's parts are spread over; None where nothing is spread.
    """
    known: dict[int, tuple[Tensor, Tensor]] = {}

    def copy(tensor: Tensor) -> Tensor:
        if id(tensor) not in known:
            known[id(tensor)] = tensor, _copy(tensor, mesh)
        return known[id(tensor)][1]

    return copy


def _copy(tensor: Tensor, mesh: Any) -> Tensor:
    if not isinstance(tensor, DTensor):
        return tensor.detach().to("cpu", copy=True)
    part = tensor.to_local().detach().to("cpu", copy=True)
    return DTensor.from_local(
        part, mesh, tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
    )


def empty_like_saved(
    sizes: Mapping[str, tuple[torch.Size, torch.dtype]], parameters: list[Tensor]
) -> dict[str, Tensor]:
    """Tensors to read an optimizer's state into, by `optimizer.<number>.<name>`, spread as parameters are."""
    found: dict[str, Tensor] = {}
    for name, (size, dtype) in sizes.items():
        parameter = parameters[int(name.split(".")[1])]
        same = size == parameter.shape
        found[name] = torch.zeros_like(parameter, dtype=dtype) if same else torch.zeros(size, dtype=dtype)
    return found
