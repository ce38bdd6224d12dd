"""Which of our modules a module of the file is: by its shape, and among those that fit, by the words in its
name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from biject.newfamily.parts import Module, Parts, Shape


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes that shapes are told by; what config.json does not say is 0."""

    vocab: int
    hidden: int
    queries: int
    """All query heads together."""
    keys: int
    """All key heads together."""
    head_dim: int
    inner: int
    positions: int
    segments: int


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Modules of the file by our names, and the rest."""

    layer: Mapping[str, Module]
    base: Mapping[str, Module]
    head: Mapping[str, Module]
    unknown: tuple[tuple[str, Module], ...]
    """Where each stands (`layer`, `base`, `head`), and the module."""
    transposed: bool = False
    """Matrices of the layers are stored (in, out)."""


_ATTENTION = frozenset({"attn", "attention", "self"})
_MLP = frozenset({"mlp", "ffn", "feedforward", "ff", "intermediate", "output", "2", "final"})

_WORDS: Mapping[str, frozenset[str]] = {
    "attn.qkv_proj": frozenset({"qkv", "wqkv", "query", "attn", "in"}),
    "attn.q_proj": frozenset({"q", "query", "wq"}),
    "attn.k_proj": frozenset({"k", "key", "wk"}),
    "attn.v_proj": frozenset({"v", "value", "wv"}),
    "mlp.gate_up_proj": frozenset({"gate", "up", "wi"}),
    "mlp.gate_proj": frozenset({"gate", "w1"}),
    "mlp.up_proj": frozenset({"up", "fc1", "lin1", "fc", "wi", "w3", "intermediate", "dense"}),
    "mlp.down_proj": frozenset({"down", "fc2", "lin2", "wo", "w2", "output", "proj", "dense"}),
    "attn.o_proj": frozenset({"o", "out", "dense", "wo", "c", "output"}),
}
_NEED_WORDS = ("attn.q_proj", "attn.k_proj", "attn.v_proj", "mlp.gate_proj")
"""Several matrices have their shape: the shape alone never tells."""


def words(path: str) -> tuple[str, ...]:
    """The pieces of a name, in small letters."""
    return tuple(re.split(r"[._]", path.lower()))


def find_roles(parts: Parts, sizes: Sizes) -> Roles:
    """A role for each module that has one."""
    matrices = [m for m in parts.layer if len(m.weight) == 2]
    layer, transposed = _matrices(matrices, sizes)
    layer = {**layer, **_layer_norms([m for m in parts.layer if len(m.weight) == 1], sizes)}
    base, head = _base(parts.base, sizes), _head(parts.head, sizes)
    by_place = {"layer": (parts.layer, layer), "base": (parts.base, base), "head": (parts.head, head)}
    unknown = [
        (place, module)
        for place, (modules, roles) in by_place.items()
        for module in modules
        if module not in roles.values()
    ]
    return Roles(layer=layer, base=base, head=head, unknown=tuple(unknown), transposed=transposed)


def _matrices(modules: Sequence[Module], sizes: Sizes) -> tuple[dict[str, Module], bool]:
    """The matrices of a layer: the surest pair of role and module first."""
    hidden, inner = sizes.hidden, sizes.inner
    shapes: dict[str, Shape] = {
        "attn.qkv_proj": (sizes.queries + 2 * sizes.keys, hidden),
        "attn.q_proj": (sizes.queries, hidden),
        "attn.k_proj": (sizes.keys, hidden),
        "attn.v_proj": (sizes.keys, hidden),
        "mlp.gate_up_proj": (2 * inner, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "attn.o_proj": (hidden, sizes.queries),
    }
    turned = any(
        m.weight[::-1] == shapes["attn.qkv_proj"] and _score("attn.qkv_proj", m) > 0 for m in modules
    )
    if turned:
        shapes = {role: shape[::-1] for role, shape in shapes.items()}
    fitting = {role: [m for m in modules if m.weight == shape] for role, shape in shapes.items()}
    pairs = [(_score(role, module), role, module) for role, some in fitting.items() for module in some]
    found: dict[str, Module] = {}
    for score, role, module in sorted(pairs, key=lambda pair: (-pair[0], -len(pair[2].layers))):
        if role in found or module in found.values() or (score <= 0 and role in _NEED_WORDS):
            continue
        rest = islice((m for m in fitting[role] if m not in found.values()), 2)
        if score > 0 or len([*rest]) == 1:
            found[role] = module
    return found, turned


def _score(role: str, module: Module) -> int:
    """How well the words of a name fit a role: 0 says nothing, below it speaks against."""
    *path, last = module.path.lower().split(".")
    before, own = set(words(".".join(path))), set(words(last))
    fit = _WORDS[role]
    score = 2 * bool(own & fit) + bool(before & fit)
    attention = bool((before | own) & _ATTENTION)
    return score if attention == role.startswith("attn.") else score - 1


def _layer_norms(modules: Sequence[Module], sizes: Sizes) -> dict[str, Module]:
    """The norms of a layer: before or after attention and MLP, over what both give, and those of queries and
    keys.
    """
    found: dict[str, Module] = {}
    widths = {(sizes.head_dim,), (sizes.queries,), (sizes.keys,)}
    sides: dict[str, list[Module]] = {"attn_norm": [], "mlp_norm": [], "": []}
    for module in modules:
        own = set(words(module.path.rsplit(".", 1)[-1]))
        if own & {"q", "k"}:
            if module.weight in widths:
                found[f"attn.{'q' if 'q' in own else 'k'}_norm"] = module
        elif module.weight == (sizes.hidden,):
            sides[_side(module.path)].append(module)
    after = [m for m in sides["attn_norm"] if "post" in words(m.path)]
    behind = [m for m in sides["mlp_norm"] if "post" in words(m.path)]
    if after and behind:  # each over what it stands behind
        found |= {"attn_out_norm": after[0], "mlp_out_norm": behind[0]}
        sides["attn_norm"] = [m for m in sides["attn_norm"] if "post" not in words(m.path)]
        sides["mlp_norm"] = [m for m in sides["mlp_norm"] if "post" not in words(m.path)]
    elif len(sides["attn_norm"]) > len(after):  # an input norm beside it: then it stands before the MLP
        sides["attn_norm"] = [m for m in sides["attn_norm"] if "post" not in words(m.path)]
        sides["mlp_norm"] += after
    for role in ("attn_norm", "mlp_norm"):
        candidates = sorted(sides[role], key=lambda m: ("pre" not in words(m.path), -len(m.layers)))
        candidates = candidates or sides[""][:1]
        if candidates:
            found[role] = candidates[0]
            sides[""] = [m for m in sides[""] if m is not candidates[0]]
    return found


def _side(path: str) -> str:
    """Which norm of a layer a name speaks of, or nothing."""
    pieces = set(words(path))
    if pieces & _ATTENTION or pieces & {"input", "sa", "1"} or "attn" in path.lower():
        return "attn_norm"
    return "mlp_norm" if pieces & _MLP else ""


def _base(modules: Iterable[Module], sizes: Sizes) -> dict[str, Module]:
    """Tables, norms and pooler of the base model."""
    found: dict[str, Module] = {}
    for module in modules:
        path, shape = module.path.lower(), module.weight
        role = ""
        if shape == (sizes.hidden, sizes.hidden) and "pool" in path:
            role = "head.pooler"
        elif len(shape) == 2 and shape[1] == sizes.hidden:
            role = _table(path, shape[0], sizes)
        elif shape == (sizes.hidden,):
            embedded = "emb" in path and "after" not in path and "final" not in path
            role = "embed_norm" if embedded else "final_norm"
        if role and not (role.startswith("embed.") and module.has_bias):
            found.setdefault(role, module)
    return found


def _table(path: str, rows: int, sizes: Sizes) -> str:
    if "pos" in path or path.endswith("wpe"):
        return "embed.positions" if rows == sizes.positions else ""
    if "type" in path or "segment" in path:
        return "embed.segments" if rows == sizes.segments else ""
    return "embed.tokens" if rows == sizes.vocab else ""


def _head(modules: Iterable[Module], sizes: Sizes) -> dict[str, Module]:
    """Dense layer, norm and output of a head."""
    found: dict[str, Module] = {}
    for module in modules:
        shape = module.weight
        if shape == (sizes.vocab, sizes.hidden) or dict(module.leaves).get("bias") == (sizes.vocab,):
            found.setdefault("head.decoder" if shape else "head.decoder.bias", module)
        elif shape == (sizes.hidden, sizes.hidden):
            found.setdefault("head.dense", module)
        elif shape == (sizes.hidden,):
            found.setdefault("head.norm", module)
        elif len(shape) == 2 and shape[1] == sizes.hidden:
            found.setdefault("head.out", module)
    return found
