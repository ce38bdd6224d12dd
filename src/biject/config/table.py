"""`ConfigTable`: a family's `config.json`, read into our names and written back, key by key.

Every key is a `Key` (read and written), a `Const` (must hold a value whose maths we compute), or
`Inert` (no effect on what is computed). An unknown key is kept and named in a notice: the original
text is always the base of what is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from biject.errors import ConfigError, shown
from biject.events import notice

Check = Callable[[Any], str | None]
"""Returns what was expected if the value does not fit, else None."""


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()


@dataclass(frozen=True)
class Key:
    """A key that is read into `field` and written from it; absent, it means `default` (HF's own).

    `alias` is another name under which HF reads it (`attribute_map`), and which may not contradict it.
    """

    name: str
    field: str
    check: Check
    default: Any = REQUIRED
    alias: str | None = None

    def value(self, hf: Mapping[str, Any]) -> Any:
        """What the file says under either name, else the default."""
        return hf.get(self.name, self.default if self.alias is None else hf.get(self.alias, self.default))

    def contradiction(self, hf: Mapping[str, Any]) -> str | None:
        """In words, that the file says one thing under one name and another under the other."""
        if self.alias is None or self.name not in hf or self.alias not in hf:
            return None
        own, other = hf[self.name], hf[self.alias]
        if own == other and type(own) is type(other):
            return None
        return (
            f"`{self.name}` is {shown(own)}, but `{self.alias}`, another name of it, is {shown(other)}: keep "
            "the right one only"
        )


@dataclass(frozen=True)
class Const:
    """A key of which only `allowed` values have maths that Biject computes; absent is allowed."""

    name: str
    allowed: tuple[Any, ...]
    why: str


@dataclass(frozen=True)
class Inert:
    """Keys without effect on what is computed here; they stay as they came."""

    names: tuple[str, ...]


Row = Key | Const | Inert


class ConfigTable:
    """The rows of one family, both ways."""

    def __init__(self, *rows: Row | Iterable[Row]) -> None:
        flat: list[Row] = []
        for row in rows:
            flat.extend([row] if isinstance(row, Key | Const | Inert) else row)
        self.keys: Mapping[str, Key] = MappingProxyType({r.field: r for r in flat if isinstance(r, Key)})
        self.consts = tuple(r for r in flat if isinstance(r, Const))
        self.known = frozenset(name for r in flat for name in _names(r))  # every name on disk

    def read(self, hf: Mapping[str, Any]) -> dict[str, Any]:
        """Values by our field names.

        Raises:
            ConfigError: keys are missing or hold values that do not fit; all of them in one message.
        """
        faults, values = [], {}
        for field, key in self.keys.items():
            contradiction = key.contradiction(hf)
            faults += [] if contradiction is None else [contradiction]
            value = key.value(hf)
            if value is REQUIRED:
                faults.append(f"`{key.name}` is missing")
                continue
            expected = key.check(value)
            if expected:
                faults.append(f"`{key.name}` should be {expected}, found {shown(value)}")
            values[field] = value
        for const in self.consts:
            if const.name in hf and hf[const.name] not in const.allowed:
                want = " or ".join(repr(v) for v in const.allowed)
                faults.append(f"`{const.name}` is {shown(hf[const.name])}: {const.why} (supported: {want})")
        if faults:
            raise ConfigError("config.json cannot be used: " + "; ".join(faults) + ".")
        return values

    def unknown(self, hf: Mapping[str, Any]) -> tuple[str, ...]:
        """Keys of `hf` that no row knows."""
        return tuple(name for name in hf if name not in self.known)

    def warn_unknown(self, hf: Mapping[str, Any]) -> None:
        """Name unknown keys in one notice."""
        names = self.unknown(hf)
        if names:
            listed = ", ".join(f"`{n}`" if len(n) < 100 else shown(n) for n in names[:20])
            listed += f" and {len(names) - 20} more" if len(names) > 20 else ""
            notice(
                "unknown-config-key",
                f"config.json has keys that Biject does not know and leaves alone: {listed}.",
            )

    def write(self, hf: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        """`hf` with the given fields set under their names on disk (those that stand there, else HF's own);
        everything else, and the order, as it came.
        """
        out = dict(hf)
        for field, value in changes.items():
            names = _names(self.keys[field])
            out.update(dict.fromkeys([name for name in names if name in hf] or names[:1], value))
        return out


def _names(row: Row) -> tuple[str, ...]:
    """What a row's keys are called on disk."""
    if isinstance(row, Inert):
        return row.names
    alias = row.alias if isinstance(row, Key) else None
    return (row.name,) if alias is None else (row.name, alias)
