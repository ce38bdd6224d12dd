"""From specs and the names in a file to a `Plan`: which tensor is which parameter, what is passed through.

Expand, never match: each spelling (with or without the base prefix, new or old norm names) is a
whole set of concrete names; the file's spelling is the one that is complete, and it is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from biject.errors import WeightsError
from biject.weights.diagnose import missing_message, refuse_foreign
from biject.weights.rules import ParamSpec, ParamSpecs

Same = Callable[[str, str], bool]
"""Whether two tensors of the file hold the same values."""


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """How one file writes the names of the base model."""

    prefix: str
    old_norms: bool

    def name(self, spec: ParamSpec) -> str:
        """The spec's name on disk."""
        local = spec.old if self.old_norms and spec.old else spec.disk
        return self.prefix + local if spec.base else local


@dataclass(frozen=True, kw_only=True)
class Binding:
    """One parameter and its tensors on disk: the first is read, all are written."""

    memory: str
    disk: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The bijection for one file and one head, plus the tensors that stay outside the module."""

    bindings: tuple[Binding, ...]
    passthrough: tuple[str, ...]
    """Tensors of the file that this head does not use, in file order."""
    unknown: tuple[str, ...]
    """The passthrough ones that no head of the family uses either."""
    absent: tuple[str, ...]
    """Optional parameters (memory names) that the file does not have; the module is built without
    them.
    """
    initialized: tuple[Binding, ...]
    """Parameters that the caller requested to be new, and the names they are written under."""
    spelling: Spelling
    tied_output: bool
    """A language model's output matrix is the token table itself."""
    respelt: Mapping[str, str] = field(default_factory=dict)
    """Names on disk that another head's class spells with another base prefix, and how it does; they are
    written so.
    """

    adapters: Mapping[str, tuple[Binding, ...]] = field(default_factory=dict)
    """Declared parameters beside the file's, by adapter: each is written to a file of its own."""

    def with_adapter(self, name: str, memory_names: Iterable[str]) -> Plan:
        """The plan with one more adapter, or another list for one; its names on disk are those in memory.

        Raises:
            WeightsError: a name is one of the checkpoint's own, or of another adapter.
        """
        bindings = tuple(Binding(memory=memory, disk=(memory,)) for memory in memory_names)
        others = {key: found for key, found in self.adapters.items() if key != name}
        taken = {b.memory for b in (*self.bindings, *self.initialized)}
        taken |= {b.memory for found in others.values() for b in found}
        for binding in bindings:
            if binding.memory in taken:
                raise WeightsError(f"adapter {name!r}: `{binding.memory}` is already written elsewhere.")
        return replace(self, adapters={**others, name: bindings})

    def written(self, name: str) -> str:
        """The name under which a tensor of the file is written."""
        return self.respelt.get(name, name)

    def describe(self) -> list[tuple[str, str]]:
        """Rows (memory, disk) of the mapping, for tables."""
        rows = [(b.memory, " = ".join(b.disk)) for b in self.bindings]
        return rows + [("(passthrough)", name) for name in self.passthrough]


def spellings(prefix: str, *others: str) -> tuple[Spelling, ...]:
    """All whole alternatives for one family's prefix, or `others` that its classes have."""
    named = dict.fromkeys(one for one in (prefix, *others) if one)
    prefixes = (*(f"{one}." for one in named), "")
    return tuple(Spelling(prefix=p, old_norms=old) for old in (False, True) for p in prefixes)


def find_spelling(specs: ParamSpecs, names: Collection[str], prefix: str, *others: str) -> Spelling:
    """The alternative of which the file has most; ties go to the first."""
    best, most = None, -1
    for spelling in spellings(prefix, *others):
        found = sum(spelling.name(spec) in names for spec in specs)
        if found > most:
            best, most = spelling, found
        if found == len(specs):
            break  # none has more
    assert best is not None
    return best


def make_plan(
    specs: ParamSpecs,
    names: Collection[str],
    *,
    prefix: str,
    tied: bool,
    same: Same,
    known: Callable[[], ParamSpecs] = tuple,
    buffers: Iterable[str] = (),
    new_head: bool = False,
    others: Iterable[str] = (),
    own_head: bool = True,
    where: str = "the checkpoint",
) -> Plan:
    """Bind every spec to tensors of the file.

    Args:
        specs: what the model with the requested head needs.
        names: the tensors in the file, in file order.
        prefix: what the head's class calls the base model, without the dot.
        tied: `tie_word_embeddings` of the config.
        same: compares two tensors of the file (only called for aliases that are both there).
        known: gives the specs of all heads; tensors under their names are passed through without a notice.
        buffers: other names, relative to the base, that are passed through without a notice (old buffers).
        new_head: the head's output is `initialized`, and so is what the file lacks before it, a pooler too.
        others: what other classes of the family call it.
        own_head: the file's names are kept as they are; else one of `others` becomes `prefix`.
        where: the file or folder, for messages.

    Raises:
        WeightsError: a needed tensor is missing, or the file holds tensors (adapters, quantised
            weights) whose maths is not computed.
    """
    refuse_foreign(names, where)
    spelling = find_spelling(specs, names, prefix, *others)
    made_new = [s for s in specs if new_head and _is_new(s, names, spelling)]
    fresh = [s for s in made_new if not (s.tied_to and tied)]
    read = tuple(s for s in specs if s not in made_new)
    bound, missing = _bind_all(read, spelling, set(names), tied=tied, same=same)
    absent = tuple(spec.memory for spec in missing if spec.optional)
    lacking = [spec for spec in missing if not spec.optional]
    if new_head:
        fresh += [spec for spec in lacking if spec.memory.startswith("head.pooler.")]
        lacking = [spec for spec in lacking if spec not in fresh]
    used = {name for disks in bound.values() for name in disks}
    passthrough = tuple(name for name in names if name not in used)
    if lacking:
        needed = [(spec.memory, spelling.name(spec)) for spec in lacking]
        raise WeightsError(missing_message(needed, passthrough, where))
    return Plan(
        bindings=tuple(Binding(memory=memory, disk=tuple(disks)) for memory, disks in bound.items()),
        passthrough=passthrough,
        unknown=_unknown(passthrough, spelling, known, {*buffers, *(f"{prefix}.{name}" for name in buffers)}),
        absent=absent,
        initialized=tuple(Binding(memory=s.memory, disk=(_written_as(s, spelling, tied),)) for s in fresh),
        spelling=spelling,
        tied_output=not any(s.tied_to and (s.memory in bound or s in fresh) for s in specs),
        respelt={} if own_head else _respelt(specs, bound, spelling, prefix),
    )


def _is_new(spec: ParamSpec, names: Collection[str], spelling: Spelling) -> bool:
    """Whether a parameter of a new head is made anew: the output always, what is before it unless the file
    has it under the same name, as HF finds it (ModernBERT's heads share their dense layer).
    """
    output = spec.memory.startswith(("head.out.", "head.decoder.", "head.distillation_out."))
    return not spec.base and (output or spelling.name(spec) not in names)


def _respelt(
    specs: ParamSpecs, bound: Mapping[str, list[str]], spelling: Spelling, prefix: str
) -> dict[str, str]:
    """Names of the base model in a file whose class calls it otherwise than the one that is written."""
    if spelling.prefix in ("", f"{prefix}."):
        return {}
    right = replace(spelling, prefix=f"{prefix}.")
    return {spelling.name(spec): right.name(spec) for spec in specs if spec.base and spec.memory in bound}


def _unknown(
    passthrough: tuple[str, ...], spelling: Spelling, known: Callable[[], ParamSpecs], buffers: set[str]
) -> tuple[str, ...]:
    """Names passed through that no head uses; other heads are expanded only where there are any."""
    left = [name for name in passthrough if name not in buffers]
    specs = known() if left else ()
    expected = {spelling.name(spec) for spec in specs} | {spec.alias for spec in specs}
    return tuple(name for name in left if name not in expected)


def _written_as(spec: ParamSpec, spelling: Spelling, tied: bool) -> str:
    """The name of a new tensor: of aliases, the one that HF writes."""
    return spec.alias if spec.alias and tied else spelling.name(spec)


def _bind_all(
    specs: ParamSpecs, spelling: Spelling, has: set[str], *, tied: bool, same: Same
) -> tuple[dict[str, list[str]], list[ParamSpec]]:
    """Names on disk by memory name, and the specs for which the file has nothing."""
    bound: dict[str, list[str]] = {}
    missing: list[ParamSpec] = []
    for spec in specs:
        disks = _bind(spec, spelling, has, tied=tied, same=same, bound=bound)
        if disks:
            bound[spec.memory] = disks
        elif disks is None:
            missing.append(spec)
    left = [spec for spec in missing if not _from_alias(spec, specs, spelling, has, tied=tied, bound=bound)]
    return bound, left


def _bind(
    spec: ParamSpec, spelling: Spelling, has: set[str], *, tied: bool, same: Same, bound: dict[str, list[str]]
) -> list[str] | None:
    """Names for one spec; [] where another parameter stands in for it; None where the file has
    nothing.
    """
    name = spelling.name(spec)
    if spec.tied_to and tied:
        owner = bound.get(spec.tied_to)
        if name not in has:
            return []
        if owner and same(owner[0], name):
            owner.append(name)
            return []
        return [name] if owner else []
    if spec.alias and tied:
        if name in has and spec.alias in has:
            return [name, spec.alias] if same(name, spec.alias) else [name]
        return [name] if name in has else [spec.alias] if spec.alias in has else None
    return [name] if name in has else None


def _from_alias(
    spec: ParamSpec,
    specs: ParamSpecs,
    spelling: Spelling,
    has: set[str],
    *,
    tied: bool,
    bound: dict[str, list[str]],
) -> bool:
    """Bind a missing token table to the output matrix that is tied to it, as HF does."""
    for other in specs:
        if tied and other.tied_to == spec.memory and spelling.name(other) in has:
            bound[spec.memory] = [spelling.name(other)]
            return True
    return False
