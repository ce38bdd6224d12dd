"""Which known family a checkpoint of an unknown one looks most like, judged by the names of its tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from biject.checkpoint.source import Source
from biject.config.limits import check_sizes
from biject.errors import BijectError
from biject.families import Family, bert, families
from biject.weights.plan import spellings
from biject.weights.rules import ParamSpecs


@dataclass(frozen=True, kw_only=True)
class Relative:
    """A known family under a new prefix, and how its names fit the file's."""

    family: Family
    prefix: str
    matched: tuple[str, ...]
    """Tensors of the file that the family names."""
    unnamed: tuple[str, ...]
    """Tensors of the file that it does not name."""
    lacking: tuple[str, ...]
    """Parameters of its layers that the file has not, by our names."""
    unknown_keys: tuple[str, ...]
    """Config keys that its table does not know."""

    @property
    def share(self) -> float:
        """Matched tensors over all."""
        return len(self.matched) / max(1, len(self.matched) + len(self.unnamed))


def nearest_relative(source: Source) -> Relative:
    """The family that names most of the file's tensors and needs fewest that are not there, under the prefix
    that fits best; of a family and its cousins, the one that the others are named after.
    """
    found = [
        _fit(known, specs, prefix, source)
        for known in families().values()
        if known.model_type != source.config.get("model_type")
        for specs in [_slots(known, source)]
        for prefix in _prefixes(known, source)
    ]
    return max(found, key=lambda relative: _rank(relative, source.config))


def _rank(relative: Relative, config: Mapping[str, Any]) -> tuple[float, int, int, bool, bool]:
    """Names first; then how many keys, sizes aside, have the family's default (`pad_token_id` separates
    RoBERTa from BERT).
    """
    keys = [key for key in relative.family.config.keys.values() if key.name not in bert.TINY]
    defaults = sum(key.name in config and config[key.name] == key.default for key in keys)
    original = relative.family.prefix == relative.family.model_type
    own_prefix = relative.prefix == str(config.get("model_type")).replace("-", "_")
    return relative.share, -len(relative.lacking), defaults, original, own_prefix


MAX_PREFIXES = 16
"""As many first pieces of names are tried, those of most tensors."""


def _prefixes(known: Family, source: Source) -> list[str]:
    counts = Counter(name.split(".", 1)[0] for name in source.tensors if "." in name)
    firsts = [first for first, _ in counts.most_common(MAX_PREFIXES)]
    return [
        *dict.fromkeys(
            [str(source.config.get("model_type")).replace("-", "_"), known.prefix, *sorted(firsts)]
        )
    ]


def _fit(known: Family, specs: ParamSpecs, prefix: str, source: Source) -> Relative:
    named = {
        spelling.name(spec)
        for spelling in spellings(prefix)
        for spec in specs
        if spec.base or not spelling.old_norms or spec.old
    }
    lacking = [
        spec.memory
        for spec in specs
        if spec.memory.startswith("layers.") and not spec.optional
        if source.tensors.keys().isdisjoint(spelling.name(spec) for spelling in spellings(prefix))
    ]
    named |= {spec.alias for spec in specs if spec.alias}
    named |= {name for one in known.passthrough for name in (one, f"{prefix}.{one}")}
    return Relative(
        family=known,
        prefix=prefix,
        matched=tuple(name for name in source.tensors if name in named),
        unnamed=tuple(name for name in source.tensors if name not in named),
        lacking=tuple(dict.fromkeys(lacking)),
        unknown_keys=known.config.unknown(source.config),
    )


def _slots(known: Family, source: Source) -> ParamSpecs:
    """The family's specs under this config, or under its tiny one with this config's layers; a config that
    it cannot use, or that asks for more layers than the file can have, is passed over.
    """
    config, layers = source.config, known.config.keys["num_hidden_layers"].name
    fallback = {**known.tiny, **({layers: config[layers]} if layers in config else {})}
    for candidate in (config, fallback, known.tiny):
        try:
            values = known.config.read(candidate)
            count, steps = known.depth(values)
            check_sizes(values, layers=count, steps=steps, num_tensors=len(source.tensors), num_elements=None)
            return known.all_specs(known.resolved(values, ()))
        except BijectError:
            continue
    return ()
