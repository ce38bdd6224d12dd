"""Rules: what a family file writes down. Each expands to `Slot`s, one per tensor, with concrete
names; no patterns.

A name in a *base* rule may stand on disk with or without the family's prefix (`bert.`); a *head*
rule's name is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Slot(NamedTuple):
    """One parameter and the name of its tensor on disk."""

    memory: str
    disk: str
    old: str = ""
    """The same tensor's name in files converted from TensorFlow (`LayerNorm.gamma`), or empty."""
    base: bool = True
    """The name on disk is relative to the base model."""
    optional: bool = False
    twin: str = ""
    """A second name on disk (whole) that holds the same values where outputs are tied; `disk`
    decides if they differ.
    """
    tied_to: str = ""
    """Memory name of the parameter this one *is* where outputs are tied; a parameter of its own
    where values differ.
    """


Slots = tuple[Slot, ...]


def tensor(memory: str, disk: str) -> Slots:
    """One tensor."""
    return (Slot(memory=memory, disk=disk),)


def linear(memory: str, disk: str, *, bias: bool = True) -> Slots:
    """A `weight`, stored `(out, in)`, and a `bias`."""
    names = ("weight", "bias") if bias else ("weight",)
    return tuple(Slot(memory=f"{memory}.{n}", disk=f"{disk}.{n}") for n in names)


def embed(memory: str, disk: str) -> Slots:
    """An embedding table."""
    return (Slot(memory=f"{memory}.weight", disk=f"{disk}.weight"),)


def norm(memory: str, disk: str) -> Slots:
    """A layer norm; files converted from TensorFlow call it `gamma` and `beta` where the module is
    a `LayerNorm`.
    """
    has_old = disk.rsplit(".", 1)[-1] == "LayerNorm"
    return tuple(
        Slot(memory=f"{memory}.{new}", disk=f"{disk}.{new}", old=f"{disk}.{old}" if has_old else "")
        for new, old in (("weight", "gamma"), ("bias", "beta"))
    )


def rms(memory: str, disk: str) -> Slots:
    """A norm with a scale only."""
    return (Slot(memory=f"{memory}.weight", disk=f"{disk}.weight"),)


def layers(disks: Sequence[str], *rules: Slots) -> Slots:
    """The same rules for every layer: `layers.{i}.` in memory, `disks[i].` on disk."""
    inner = join(*rules)
    return tuple(
        Slot(f"layers.{i}.{slot.memory}", f"{disk}.{slot.disk}", slot.old and f"{disk}.{slot.old}", *slot[3:])
        for i, disk in enumerate(disks)
        for slot in inner
    )


def join(*rules: Slots) -> Slots:
    """Rules one after another."""
    return tuple(slot for rule in rules for slot in rule)


def optional(rule: Slots) -> Slots:
    """Left out, not invented, where the file does not have it."""
    return tuple(slot._replace(optional=True) for slot in rule)


def head(*rules: Slots) -> Slots:
    """Names that never carry the base prefix."""
    return tuple(slot._replace(base=False) for slot in join(*rules))


def output_matrix(memory: str, disk: str, *, tied_to: str) -> Slots:
    """A matrix over the vocabulary that is the token table where outputs are tied."""
    return (Slot(memory=memory, disk=disk, base=False, tied_to=tied_to),)


def output_bias(memory: str, disk: str, *, twin: str) -> Slots:
    """A bias over the vocabulary that HF keeps under two names; the computation uses the one called
    `disk`.
    """
    return (Slot(memory=memory, disk=disk, base=False, twin=twin),)


def memory_names(slots: Iterable[Slot]) -> tuple[str, ...]:
    """Names in memory, in order."""
    return tuple(slot.memory for slot in slots)
