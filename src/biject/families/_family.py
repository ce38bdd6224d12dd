"""`Family`: the one thing a family file declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from biject.config.model import ModelConfig
from biject.config.table import ConfigTable
from biject.errors import ConfigError
from biject.weights.rules import ParamSpecs

HEADS = ("base", "seqcls", "tokcls", "qa", "mlm")
"""Heads that every encoder family has, in the order of tables."""

CAUSAL_HEADS = ("base", "seqcls", "tokcls", "qa", "causal")
"""Heads that every decoder family has."""

IMAGE_HEADS = ("base", "imgcls")
"""Heads that every family of pictures has."""

ALL_HEADS = (*HEADS, "causal", "rtd", "imgcls", "distilled")
"""All heads; `causal` predicts the next token, `rtd` is ELECTRA's replaced-token detection, `imgcls`
classifies pictures, `distilled` by DeiT's two classifiers."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """One head of a family: HF's class for it, and the specs it adds to the base model's."""

    hf_class: str
    specs: Callable[[Mapping[str, Any]], ParamSpecs]
    """From the config's values to all specs of the model with this head."""
    also: tuple[str, ...] = ()
    """Other HF classes whose files this head reads (their further tensors are passed through)."""
    prefix: str | None = None
    """Name of the base model inside this class, where it is not the family's."""


class Init(NamedTuple):
    """How HF draws a matrix at first: normal, cut off at so many standard deviations."""

    std: float
    cutoff: float | None = None


class Slice(NamedTuple):
    """A tensor of a file that is a slice of a larger one in transformers' memory."""

    disk: str
    """A part of its name; `*` is its number in the larger one."""
    memory: str
    """What stands for that part in the larger one's name."""
    part: int = 0
    """Which part of the rows under that number it is,"""
    parts: int = 1
    """and of how many."""


def _init(values: Mapping[str, Any], memory: str) -> Init:
    return Init(float(values["initializer_range"]))


def _depth(values: Mapping[str, Any]) -> tuple[int, int]:
    layers = int(values.get("num_hidden_layers", 0))
    return layers, layers


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of checkpoints: `model_type` in config.json, and everything needed to go both ways."""

    model_type: str
    prefix: str
    """Name of the base model inside HF's head classes."""
    config: ConfigTable
    build: Callable[[Mapping[str, Any], str], ModelConfig]
    """From the table's values and a head's name to the modules' config; raises `ConfigError` for
    maths that HF has
    no answer to either."""
    heads: Mapping[str, Head]
    passthrough: tuple[str, ...] = ()
    """Names, relative to the base, of tensors that old files hold beside the parameters."""
    kept: tuple[str, ...] = ()
    """Those of them that are HF's base model's own parameters: written with every head."""
    buffers: Callable[[Mapping[str, Any]], tuple[str, ...]] | None = None
    """More such names, of every layer, from the config's values."""
    attention: str = "sdpa"
    """HF's attention backend that the exact path follows."""
    eager_when: tuple[str, ...] = ()
    """Keys of config.json that, where true, only act under HF's `eager`: then that is followed."""
    resolve: Callable[[Mapping[str, Any], frozenset[str], str, bool | None], Mapping[str, Any]] | None = None
    """Settles values that the tensors in the file decide, given (values, names on disk, head,
    `legacy` as asked).
    """
    depth: Callable[[Mapping[str, Any]], tuple[int, int]] = _depth
    """How many layers have tensors of their own, and how many run; they differ where layers are shared."""
    init: Callable[[Mapping[str, Any], str], Init] = _init
    """How a parameter (by its name in memory) is drawn where it is new."""
    in_memory: tuple[tuple[str, str], ...] = ()
    """Parts of names on disk that transformers calls otherwise in memory, and how; all apply, in this order.
    A `+` joins the names of the parts into which it cuts a tensor's rows."""
    slices: tuple[Slice, ...] = ()
    """Tensors that transformers stacks in memory, and how."""
    tiny: Mapping[str, Any] = field(default_factory=dict)
    """config.json of a tiny model, for tests and `verify-matrix --weights tiny`."""
    base: Mapping[str, Any] = field(default_factory=dict)
    """config.json of the size published as base."""

    @property
    def reads_pictures(self) -> bool:
        """Its models are given pictures, no texts."""
        return "imgcls" in self.heads

    def head_of(self, architecture: str) -> str | None:
        """The head that reads files of an HF class, or None."""
        for name, head in self.heads.items():
            if architecture == head.hf_class or architecture in head.also:
                return name
        return None

    def backend(self, hf: Mapping[str, Any]) -> str:
        """HF's attention backend that is followed for a config.json."""
        return "eager" if any(hf.get(key) for key in self.eager_when) else self.attention

    def prefix_of(self, head: str) -> str:
        """Name of the base model inside HF's class for a head."""
        own = self.heads[head].prefix if head in self.heads else None
        return self.prefix if own is None else own

    def name_in_memory(self, disk: str) -> str:
        """What transformers calls a file's tensor in memory; `a.weight+b.weight` where it is two there, and
        `a[3:0/2]` where it is the first half of a tensor's fourth matrix.
        """
        for one in self.slices:
            before, after = one.disk.split("*")
            start, found, rest = disk.partition(before)
            number = rest.removesuffix(after)
            if found and rest.endswith(after) and number.isdecimal():
                return f"{start}{one.memory}[{number}:{one.part}/{one.parts}]"
        leaf = disk.rpartition(".")[2]
        for old, new in self.in_memory:
            if old in disk:
                disk = "+".join(
                    disk.replace(old, one).removesuffix(f".{leaf}") + f".{leaf}" for one in new.split("+")
                )
        return disk

    @property
    def prefixes(self) -> tuple[str, ...]:
        """All names that HF's classes of this family have for the base model."""
        return tuple(dict.fromkeys(self.prefix_of(head) for head in ("base", *self.heads)))

    def all_passthrough(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Names, relative to the base, of tensors that are passed through without a notice."""
        return self.passthrough + (self.buffers(values) if self.buffers is not None else ())

    def require_head(self, name: str) -> Head:
        """The head called `name`.

        Raises:
            ConfigError: this family has no such head.
        """
        if name not in self.heads:
            raise ConfigError(f"`{self.model_type}` has no head `{name}`; it has {', '.join(self.heads)}.")
        return self.heads[name]

    def resolved(
        self,
        values: Mapping[str, Any],
        names: Iterable[str],
        head: str = "base",
        legacy: bool | None = None,
    ) -> Mapping[str, Any]:
        """The config's values with what the names in the file decide; see `resolve`."""
        return values if self.resolve is None else self.resolve(values, frozenset(names), head, legacy)

    def all_specs(self, values: Mapping[str, Any]) -> ParamSpecs:
        """ParamSpecs of every head, to tell a known tensor from a stranger."""
        return tuple(spec for head in self.heads.values() for spec in head.specs(values))
