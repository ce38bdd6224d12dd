"""A checkpoint's tensors as modules: which stand in the numbered layers, which in the rest of the base model,
which in the head.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Shape = tuple[int, ...]
Leaves = tuple[tuple[str, Shape], ...]
"""What a module holds: `weight`, `bias`, and each one's shape."""

_OLD = {"gamma": "weight", "beta": "bias"}


@dataclass(frozen=True, kw_only=True)
class Module:
    """One module of the file, as all layers that have it have it.

    `path` is relative to the layer, or to the base model, or whole for a head's.
    """

    path: str
    leaves: Leaves
    layers: tuple[int, ...] = ()

    @property
    def weight(self) -> Shape:
        """The weight's shape; () for a lone bias."""
        return dict(self.leaves).get("weight", ())

    @property
    def has_bias(self) -> bool:
        """Whether there is a bias."""
        return "bias" in dict(self.leaves)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Modules of a file; `strays` are tensors that are no weight or bias, or have another shape elsewhere."""

    prefix: str
    container: str
    """Where the layers are, relative to the base model: `encoder.layer`."""
    num_layers: int
    layer: tuple[Module, ...]
    base: tuple[Module, ...]
    head: tuple[Module, ...]
    strays: tuple[str, ...]


def take_apart(shapes: Mapping[str, Shape], vocab_size: int) -> Parts | None:
    """The parts of a file by its tensors' names; None where nothing is numbered like layers."""
    container = _container(shapes)
    if container is None:
        return None
    inside = {name: shape for name, shape in shapes.items() if _index(name, container) is not None}
    outside = {name: shape for name, shape in shapes.items() if name not in inside}
    prefix = _prefix(container, [n for n, s in outside.items() if len(s) == 2 and s[0] == vocab_size])
    layer, strays = _layers(inside, container)
    local = {name.removeprefix(prefix): s for name, s in outside.items() if name.startswith(prefix)}
    base, base_strays = _modules(local)
    head, head_strays = _modules({name: s for name, s in outside.items() if not name.startswith(prefix)})
    return Parts(
        prefix=prefix.removesuffix("."),
        container=container.removeprefix(prefix),
        num_layers=1 + max(_index(name, container) or 0 for name in inside),
        layer=layer,
        base=base,
        head=head,
        strays=(*strays, *(prefix + name for name in base_strays), *head_strays),
    )


def _container(names: Iterable[str]) -> str | None:
    """What most numbered names have before their first number."""
    counts: Counter[str] = Counter()
    for name in names:
        pieces = name.split(".")
        at = next((i for i, piece in enumerate(pieces[:-1]) if _is_number(piece)), 0)
        if at:
            counts[".".join(pieces[:at])] += 1
    return counts.most_common(1)[0][0] if counts else None


def _index(name: str, container: str) -> int | None:
    """The number of the layer that a tensor is in."""
    if not name.startswith(f"{container}."):
        return None
    piece, inside, _ = name[len(container) + 1 :].partition(".")
    return int(piece) if inside and _is_number(piece) else None


def _is_number(piece: str) -> bool:
    """Whether it is a number as layers have it: `007`, other scripts' digits and endless ones are names."""
    return piece.isascii() and piece.isdecimal() and len(piece) < 10 and (piece == "0" or piece[0] != "0")


def _prefix(container: str, tables: Iterable[str]) -> str:
    """The first piece, with its dot, that layers and token table share; empty for a base model by itself."""
    first, _, rest = container.partition(".")
    shared = bool(rest) and any(name.startswith(f"{first}.") for name in tables)
    return f"{first}." if shared else ""


def _modules(shapes: Mapping[str, Shape]) -> tuple[tuple[Module, ...], tuple[str, ...]]:
    """Modules by path, and the tensors that are no weight or bias."""
    found: dict[str, list[tuple[str, Shape]]] = {}
    strays = []
    for name, shape in shapes.items():
        path, _, leaf = name.rpartition(".")
        leaf = _OLD.get(leaf, leaf) if path.endswith("LayerNorm") else leaf
        if path and leaf in ("weight", "bias"):
            found.setdefault(path, []).append((leaf, shape))
        else:
            strays.append(name)
    return tuple(Module(path=p, leaves=tuple(sorted(found[p]))) for p in found), tuple(strays)


def _layers(shapes: Mapping[str, Shape], container: str) -> tuple[tuple[Module, ...], tuple[str, ...]]:
    """Modules as most layers have them; where a layer differs, its tensors are strays."""
    by_layer: dict[int, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        index = _index(name, container)
        assert index is not None
        by_layer.setdefault(index, {})[name.removeprefix(f"{container}.{index}.")] = shape
    seen: dict[str, dict[int, Leaves]] = {}
    strays: list[str] = []
    own: dict[tuple[int, str], list[str]] = {}
    for index, local in by_layer.items():
        modules, odd = _modules(local)
        strays += [f"{container}.{index}.{name}" for name in odd]
        for name in local:
            own.setdefault((index, name.rpartition(".")[0]), []).append(f"{container}.{index}.{name}")
        for module in modules:
            seen.setdefault(module.path, {})[index] = module.leaves
    merged = []
    for path, each in seen.items():
        usual = Counter(each.values()).most_common(1)[0][0]
        layers = tuple(sorted(i for i in each if each[i] == usual))
        merged.append(Module(path=path, leaves=usual, layers=layers))
        strays += [name for i in each if each[i] != usual for name in own[i, path]]
    merged.sort(key=lambda module: -len(module.layers))
    return tuple(merged), tuple(strays)
