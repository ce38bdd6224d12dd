"""Faults in the weights of a copy. Each changes outputs or bytes, or raises with the reason why it cannot."""

from __future__ import annotations

import torch
from torch import Tensor

from biject.nn.init import initialise
from biject.verify.faults.copy import Copy
from biject.verify.faults.outcome import DoesNotApply

_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_MANTISSA = {torch.float16: 10, torch.bfloat16: 7, torch.float32: 23, torch.float64: 52}


def _different(old: Tensor, new: Tensor, what: str) -> Tensor:
    if torch.equal(old, new):
        raise DoesNotApply(f"{what} would change nothing")
    return new


def swap_query_and_key(copy: Copy) -> str:
    """Query and key projections of the last layer change places; key and value where queries have more
    heads.
    """
    layer = f"layers.{copy.layers() - 1}.attn"
    changes: dict[str, Tensor | None] = {}
    if f"{layer}.qkv_proj.weight" in copy.names:
        for leaf in ("weight", "bias"):
            if f"{layer}.qkv_proj.{leaf}" not in copy.names:
                continue
            name = copy.disk(f"{layer}.qkv_proj.{leaf}")
            old = copy.tensor(name)
            dim = 0 if old.shape[0] > old.shape[-1] else -1  # stored (out, in), or (in, out)
            q, k, v = old.chunk(3, dim=dim)
            changes[name] = _different(old, torch.cat((k, q, v), dim), "swapping")
        copy.store(changes)
        return f"{layer}.qkv_proj: queries <-> keys"
    shapes = [copy.tensor(copy.disk(f"{layer}.{one}_proj.weight")).shape for one in "qk"]
    one, other = ("q_proj", "k_proj") if shapes[0] == shapes[1] else ("k_proj", "v_proj")
    for leaf in ("weight", "bias"):
        if f"{layer}.{one}.{leaf}" in copy.names:
            a, b = copy.disk(f"{layer}.{one}.{leaf}"), copy.disk(f"{layer}.{other}.{leaf}")
            changes |= {a: copy.tensor(b), b: copy.tensor(a)}
    if all(torch.equal(copy.tensor(name), value) for name, value in changes.items() if value is not None):
        raise DoesNotApply(f"{one} and {other} are equal")
    copy.store(changes)
    return f"{layer}: {one} <-> {other}"


def transpose(copy: Copy) -> str:
    """A square weight is stored as its transpose."""
    name = copy.disk("layers.0.attn.o_proj.weight")
    old = copy.tensor(name)
    if old.shape[0] != old.shape[1]:
        raise DoesNotApply(f"{name} is not square")
    copy.store({name: _different(old, old.T.contiguous(), "transposing a symmetric weight")})
    return name


def zero_bias(copy: Copy) -> str:
    """A bias is zeroed."""
    layer = f"layers.{copy.layers() - 1}"
    name = copy.disk(f"{layer}.attn.v_proj.bias", f"{layer}.attn.qkv_proj.bias")
    old = copy.tensor(name)
    copy.store({name: _different(old, torch.zeros_like(old), "zeroing a bias of zeros")})
    return name


def drop_bias(copy: Copy) -> str:
    """A bias is left out of the file."""
    name = copy.disk("layers.0.mlp.up_proj.bias", "layers.0.attn.q_proj.bias")
    copy.store({name: None})
    return name


def flip_bit(copy: Copy) -> str:
    """The top bit of the mantissa of a weight's largest number."""
    name = copy.disk("layers.0.mlp.down_proj.weight")
    tensor = copy.tensor(name)
    if tensor.dtype not in _MANTISSA:
        raise DoesNotApply(f"{name} is {tensor.dtype}")
    return _flip(copy, name, tensor, bit=_MANTISSA[tensor.dtype] - 1)


def flip_lowest_bit(copy: Copy) -> str:
    """The last bit of one number of one bias, or of a norm's scale."""
    name = copy.disk(
        "layers.0.mlp.down_proj.bias", "layers.0.mlp_norm.weight", "layers.0.mlp_out_norm.weight"
    )
    return _flip(copy, name, copy.tensor(name), bit=0)


def _flip(copy: Copy, name: str, tensor: Tensor, *, bit: int) -> str:
    index = int(tensor.abs().argmax())
    whole = tensor.view(-1).view(_WHOLE[tensor.element_size()])
    whole[index] ^= 1 << bit
    copy.store({name: tensor})
    return f"{name}, number {index}, bit {bit}"


def swap_norm(copy: Copy) -> str:
    """Scale and bias of a norm change places."""
    norm = f"layers.{copy.layers() - 1}.mlp_norm"
    scale, bias = copy.disk(f"{norm}.weight"), copy.disk(f"{norm}.bias")
    copy.store(
        {scale: _different(copy.tensor(scale), copy.tensor(bias), "swapping"), bias: copy.tensor(scale)}
    )
    return norm


def swap_layers(copy: Copy) -> str:
    """The first two layers change places."""
    if copy.layers() < 2:
        raise DoesNotApply("there is one layer only")
    own = [memory for memory in copy.names if memory.startswith("layers.0.")]
    pairs = [(copy.disk(memory), copy.disk("layers.1." + memory[9:])) for memory in own]
    changes: dict[str, Tensor | None] = {one: copy.tensor(other) for one, other in pairs}
    copy.store(changes | {other: copy.tensor(one) for one, other in pairs})
    return "layers.0 <-> layers.1"


def roll_vocabulary(copy: Copy) -> str:
    """Every token gets its neighbour's row."""
    return _rolled(copy, copy.disk("embed.tokens.weight"))


def roll_positions(copy: Copy) -> str:
    """The table of positions, or of relative positions, is shifted by one row."""
    names = ("embed.positions.weight", "relative.table.weight", "embed.positions")
    return _rolled(copy, copy.disk(*names))


def _rolled(copy: Copy, name: str) -> str:
    old = copy.tensor(name)
    copy.store({name: _different(old, old.roll(1, -2), "rolling equal rows")})
    return f"{name}, rows rolled by one"


def change_dtype(copy: Copy) -> str:
    """One tensor is stored in another dtype, without any loss where there is a wider one."""
    name = copy.disk("layers.0.attn.o_proj.weight")
    tensor = copy.tensor(name)
    other = {torch.float32: torch.float64, torch.float64: torch.float32}.get(tensor.dtype, torch.float32)
    copy.store({name: tensor.to(other)})
    return f"{name}, {tensor.dtype} -> {other}".replace("torch.", "")


def write_twin(copy: Copy) -> str:
    """The output matrix that is the token table is written as well, with other values."""
    specs = copy.family.heads[copy.head].specs(copy.values)
    spec = next((spec for spec in specs if spec.tied_to), None)
    if spec is None or not copy.plan.tied_output:
        raise DoesNotApply("nothing is tied in this head")
    name = copy.plan.spelling.name(spec)
    table = copy.tensor(copy.disk(spec.tied_to))
    copy.store({name: _different(table, table.roll(1, 0), "a twin of equal rows")})
    return name


def add_unknown(copy: Copy) -> str:
    """A tensor that no class knows."""
    name = f"{copy.family.prefix_of(copy.head)}.encoder.extra.weight"
    copy.store({name: copy.tensor(copy.disk("embed_norm.weight", "final_norm.weight"))})
    return name


def _head_tensors(copy: Copy) -> list[str]:
    own = [b for b in copy.plan.bindings if b.memory.startswith("head.")]
    names = [name for b in own if not b.memory.startswith("head.pooler.") for name in b.disk]
    if not names:
        raise DoesNotApply("there is no head")
    return names


def drop_head(copy: Copy) -> str:
    """The head's tensors are left out."""
    names = _head_tensors(copy)
    copy.store(dict.fromkeys(names))
    return ", ".join(names)


def renew_head(copy: Copy) -> str:
    """The head is initialised again, as when it was not found on loading."""
    names = [name for name in _head_tensors(copy) if name not in _shared(copy)]
    memory = {name: b.memory for b in copy.plan.bindings for name in b.disk}
    changes: dict[str, Tensor | None] = {}
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        for name in names:
            drawn = copy.tensor(name)
            initialise(memory[name], drawn, **copy.family.init(copy.values, memory[name])._asdict())
            changes[name] = drawn
    copy.store(changes)
    return ", ".join(names)


def _shared(copy: Copy) -> set[str]:
    return {name for b in copy.plan.bindings if not b.memory.startswith("head.") for name in b.disk}


def put_nan(copy: Copy) -> str:
    """One number becomes NaN."""
    return _put(
        copy, copy.disk("layers.0.mlp.up_proj.weight", "layers.0.mlp.gate_up_proj.weight"), float("nan")
    )


def put_infinity(copy: Copy) -> str:
    """One number becomes infinite."""
    return _put(copy, copy.disk("embed_norm.bias", "final_norm.weight"), float("inf"))


def _put(copy: Copy, name: str, value: float) -> str:
    tensor = copy.tensor(name)
    tensor.view(-1)[-1] = value
    copy.store({name: tensor})
    return name


def wrap_names(copy: Copy) -> str:
    """Every name gets the prefix of DistributedDataParallel."""
    names = list(copy.source.tensors)
    changes: dict[str, Tensor | None] = dict.fromkeys(names)
    copy.store(changes | {f"module.{name}": copy.tensor(name) for name in names})
    return "module. in front of every name"
