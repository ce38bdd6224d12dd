"""Rules: what a family file writes down. Each expands to `ParamSpec`s, one per tensor, with concrete
names; no patterns.

A name in a *base* rule may stand on disk with or without the family's prefix (`bert.`); a *head*
rule's name is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class ParamSpec(NamedTuple):
    """One parameter and the name of its tensor on disk."""

    memory: str
    disk: str
    old: str = ""
    """The same tensor's name in files converted from TensorFlow (`LayerNorm.gamma`), or empty."""
    base: bool = True
    """The name on disk is relative to the base model."""
    optional: bool = False
    alias: str = ""
    """A second name on disk (whole) that holds the same values where outputs are tied; `disk`
    decides if they differ.
    """
    tied_to: str = ""
    """Memory name of the parameter this one *is* where outputs are tied; a parameter of its own
    where values differ.
    """


ParamSpecs = tuple[ParamSpec, ...]


def tensor(memory: str, disk: str) -> ParamSpecs:
    """One tensor."""
    return (ParamSpec(memory=memory, disk=disk),)


def linear(memory: str, disk: str, *, bias: bool = True) -> ParamSpecs:
    """A `weight`, stored `(out, in)`, and a `bias`."""
    names = ("weight", "bias") if bias else ("weight",)
    return tuple(ParamSpec(memory=f"{memory}.{n}", disk=f"{disk}.{n}") for n in names)


def embed(memory: str, disk: str) -> ParamSpecs:
    """An embedding table."""
    return (ParamSpec(memory=f"{memory}.weight", disk=f"{disk}.weight"),)


def norm(memory: str, disk: str) -> ParamSpecs:
    """A layer norm; files converted from TensorFlow call it `gamma` and `beta` where the module is
    a `LayerNorm`.
    """
    has_old = disk.rsplit(".", 1)[-1] == "LayerNorm"
    return tuple(
        ParamSpec(memory=f"{memory}.{new}", disk=f"{disk}.{new}", old=f"{disk}.{old}" if has_old else "")
        for new, old in (("weight", "gamma"), ("bias", "beta"))
    )


def rms(memory: str, disk: str) -> ParamSpecs:
    """A norm with a scale only."""
    return (ParamSpec(memory=f"{memory}.weight", disk=f"{disk}.weight"),)


def layers(disks: Sequence[str], *rules: ParamSpecs, first: int = 0) -> ParamSpecs:
    """The same rules for every layer: `layers.{i}.` in memory from `first` on, `disks[i].` on disk."""
    inner = join(*rules)
    return tuple(
        ParamSpec(
            f"layers.{i}.{spec.memory}", f"{disk}.{spec.disk}", spec.old and f"{disk}.{spec.old}", *spec[3:]
        )
        for i, disk in enumerate(disks, first)
        for spec in inner
    )


def join(*rules: ParamSpecs) -> ParamSpecs:
    """Rules one after another."""
    return tuple(spec for rule in rules for spec in rule)


def optional(rule: ParamSpecs) -> ParamSpecs:
    """Left out, not invented, where the file does not have it."""
    return tuple(spec._replace(optional=True) for spec in rule)


def head(*rules: ParamSpecs) -> ParamSpecs:
    """Names that never carry the base prefix."""
    return tuple(spec._replace(base=False) for spec in join(*rules))


def output_matrix(memory: str, disk: str, *, tied_to: str) -> ParamSpecs:
    """A matrix over the vocabulary that is the token table where outputs are tied."""
    return (ParamSpec(memory=memory, disk=disk, base=False, tied_to=tied_to),)


def output_bias(memory: str, disk: str, *, alias: str) -> ParamSpecs:
    """A bias over the vocabulary that HF keeps under two names; the computation uses the one called
    `disk`.
    """
    return (ParamSpec(memory=memory, disk=disk, base=False, alias=alias),)


def memory_names(specs: Iterable[ParamSpec]) -> tuple[str, ...]:
    """Names in memory, in order."""
    return tuple(spec.memory for spec in specs)
