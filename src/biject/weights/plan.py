"""From slots and the names in a file to a `Plan`: which tensor is which parameter, and what is carried.

Expand, never match: each spelling (with or without the base prefix, new or old norm names) is a
whole set of concrete names; the file's spelling is the one that is complete, and it is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from biject.errors import WeightsError
from biject.weights.diagnose import missing_message, refuse_foreign
from biject.weights.rules import Slot, Slots

Same = Callable[[str, str], bool]
"""Whether two tensors of the file hold the same values."""


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """How one file writes the names of the base model."""

    prefix: str
    old_norms: bool

    def name(self, slot: Slot) -> str:
        """The slot's name on disk."""
        local = slot.old if self.old_norms and slot.old else slot.disk
        return self.prefix + local if slot.base else local


@dataclass(frozen=True, kw_only=True)
class Binding:
    """One parameter and its tensors on disk: the first is read, all are written."""

    memory: str
    disk: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The bijection for one file and one head, plus the tensors that stay outside the module."""

    bindings: tuple[Binding, ...]
    carried: tuple[str, ...]
    """Tensors of the file that this head does not use, in file order."""
    unknown: tuple[str, ...]
    """The carried ones that no head of the family uses either."""
    absent: tuple[str, ...]
    """Optional parameters (memory names) that the file does not have; the module is built without
    them.
    """
    fresh: tuple[Binding, ...]
    """Parameters that the caller asked to have made new, and the names they are written under."""
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
        taken = {b.memory for b in (*self.bindings, *self.fresh)}
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
        return rows + [("(carried)", name) for name in self.carried]


def spellings(prefix: str, *others: str) -> tuple[Spelling, ...]:
    """All whole alternatives for one family's prefix, or `others` that its classes have."""
    named = dict.fromkeys(one for one in (prefix, *others) if one)
    prefixes = (*(f"{one}." for one in named), "")
    return tuple(Spelling(prefix=p, old_norms=old) for old in (False, True) for p in prefixes)


def find_spelling(slots: Slots, names: Collection[str], prefix: str, *others: str) -> Spelling:
    """The alternative of which the file has most; ties go to the first."""
    best, most = None, -1
    for spelling in spellings(prefix, *others):
        found = sum(spelling.name(slot) in names for slot in slots)
        if found > most:
            best, most = spelling, found
        if found == len(slots):
            break  # none has more
    assert best is not None
    return best


def make_plan(
    slots: Slots,
    names: Collection[str],
    *,
    prefix: str,
    tied: bool,
    same: Same,
    known: Callable[[], Slots] = tuple,
    carry: Iterable[str] = (),
    new_head: bool = False,
    others: Iterable[str] = (),
    own_head: bool = True,
    where: str = "the checkpoint",
) -> Plan:
    """Bind every slot to tensors of the file.

    Args:
        slots: what the model with the asked head needs.
        names: the tensors in the file, in file order.
        prefix: what the head's class calls the base model, without the dot.
        tied: `tie_word_embeddings` of the config.
        same: compares two tensors of the file (only asked about twins that are both there).
        known: gives the slots of all heads; tensors under their names are carried without a word.
        carry: other names, relative to the base, that are carried without a word (old buffers).
        new_head: the head's output is `fresh`, and so is what the file lacks before it, a pooler too.
        others: what other classes of the family call it.
        own_head: the file's names are kept as they are; else one of `others` becomes `prefix`.
        where: the file or folder, for messages.

    Raises:
        WeightsError: a needed tensor is missing, or the file holds tensors (adapters, quantised
            weights) whose maths is not computed.
    """
    refuse_foreign(names, where)
    spelling = find_spelling(slots, names, prefix, *others)
    made_new = [s for s in slots if new_head and _is_new(s, names, spelling)]
    fresh = [s for s in made_new if not (s.tied_to and tied)]
    read = tuple(s for s in slots if s not in made_new)
    bound, missing = _bind_all(read, spelling, set(names), tied=tied, same=same)
    absent = tuple(slot.memory for slot in missing if slot.optional)
    lacking = [slot for slot in missing if not slot.optional]
    if new_head:
        fresh += [slot for slot in lacking if slot.memory.startswith("head.pooler.")]
        lacking = [slot for slot in lacking if slot not in fresh]
    used = {name for disks in bound.values() for name in disks}
    carried = tuple(name for name in names if name not in used)
    if lacking:
        wanted = [(slot.memory, spelling.name(slot)) for slot in lacking]
        raise WeightsError(missing_message(wanted, carried, where))
    return Plan(
        bindings=tuple(Binding(memory=memory, disk=tuple(disks)) for memory, disks in bound.items()),
        carried=carried,
        unknown=_unknown(carried, spelling, known, {*carry, *(f"{prefix}.{name}" for name in carry)}),
        absent=absent,
        fresh=tuple(Binding(memory=s.memory, disk=(_written_as(s, spelling, tied),)) for s in fresh),
        spelling=spelling,
        tied_output=not any(s.tied_to and (s.memory in bound or s in fresh) for s in slots),
        respelt={} if own_head else _respelt(slots, bound, spelling, prefix),
    )


def _is_new(slot: Slot, names: Collection[str], spelling: Spelling) -> bool:
    """Whether a parameter of a new head is made anew: the output always, what is before it unless the file
    has it under the same name, as HF finds it (ModernBERT's heads share their dense layer).
    """
    output = slot.memory.startswith(("head.out.", "head.decoder."))
    return not slot.base and (output or spelling.name(slot) not in names)


def _respelt(slots: Slots, bound: Mapping[str, list[str]], spelling: Spelling, prefix: str) -> dict[str, str]:
    """Names of the base model in a file whose class calls it otherwise than the one that is written."""
    if spelling.prefix in ("", f"{prefix}."):
        return {}
    right = replace(spelling, prefix=f"{prefix}.")
    return {spelling.name(slot): right.name(slot) for slot in slots if slot.base and slot.memory in bound}


def _unknown(
    carried: tuple[str, ...], spelling: Spelling, known: Callable[[], Slots], buffers: set[str]
) -> tuple[str, ...]:
    """Carried names that no head uses; other heads are expanded only where something is carried."""
    left = [name for name in carried if name not in buffers]
    slots = known() if left else ()
    expected = {spelling.name(slot) for slot in slots} | {slot.twin for slot in slots}
    return tuple(name for name in left if name not in expected)


def _written_as(slot: Slot, spelling: Spelling, tied: bool) -> str:
    """The name of a new tensor: of twins, the one that HF writes."""
    return slot.twin if slot.twin and tied else spelling.name(slot)


def _bind_all(
    slots: Slots, spelling: Spelling, has: set[str], *, tied: bool, same: Same
) -> tuple[dict[str, list[str]], list[Slot]]:
    """Names on disk by memory name, and the slots for which the file has nothing."""
    bound: dict[str, list[str]] = {}
    missing: list[Slot] = []
    for slot in slots:
        disks = _bind(slot, spelling, has, tied=tied, same=same, bound=bound)
        if disks:
            bound[slot.memory] = disks
        elif disks is None:
            missing.append(slot)
    left = [slot for slot in missing if not _from_twin(slot, slots, spelling, has, tied=tied, bound=bound)]
    return bound, left


def _bind(
    slot: Slot, spelling: Spelling, has: set[str], *, tied: bool, same: Same, bound: dict[str, list[str]]
) -> list[str] | None:
    """Names for one slot; [] where another parameter stands in for it; None where the file has
    nothing.
    """
    name = spelling.name(slot)
    if slot.tied_to and tied:
        owner = bound.get(slot.tied_to)
        if name not in has:
            return []
        if owner and same(owner[0], name):
            owner.append(name)
            return []
        return [name] if owner else []
    if slot.twin and tied:
        if name in has and slot.twin in has:
            return [name, slot.twin] if same(name, slot.twin) else [name]
        return [name] if name in has else [slot.twin] if slot.twin in has else None
    return [name] if name in has else None


def _from_twin(
    slot: Slot, slots: Slots, spelling: Spelling, has: set[str], *, tied: bool, bound: dict[str, list[str]]
) -> bool:
    """Bind a missing token table to the output matrix that is tied to it, as HF does."""
    for other in slots:
        if tied and other.tied_to == slot.memory and spelling.name(other) in has:
            bound[slot.memory] = [spelling.name(other)]
            return True
    return False
