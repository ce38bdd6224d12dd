"""What the parts of a recipe check alike: names, choices, numbers above 0. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, get_args

from biject.errors import ConfigError


def check_names(kind: Any, values: Mapping[str, Any], *, of: str = "") -> None:
    """Raise `ConfigError` for a name that is no setting of a dataclass; `of` is its part of the recipe."""
    known = {field.name for field in fields(kind)}
    strange = sorted(set(values) - known)
    if strange:
        what = f" of {of}" if of else ""
        raise ConfigError(
            f"No such settings{what}: {', '.join(strange)}; there are {', '.join(sorted(known))}."
        )


def not_among(settings: Any, choices: Mapping[str, Any], *, of: str = "") -> list[str]:
    """A fault for each setting that is none of the values of its `Literal`."""
    found = ((name, get_args(kind), getattr(settings, name)) for name, kind in choices.items())
    return [
        f"`{_named(name, of)}` should be one of {', '.join(allowed)}, found {value!r}"
        for name, allowed, value in found
        if value not in allowed
    ]


def not_positive(
    settings: Any, names: Iterable[str], *, of: str = "", below: float | None = None
) -> list[str]:
    """A fault for each setting that is given and not above 0, or not below a limit."""
    found = ((name, getattr(settings, name)) for name in names)
    return [
        f"`{_named(name, of)}` should be positive, found {value}"
        for name, value in found
        if value is not None and not (value > 0 and (below is None or value < below))
    ]


def refuse(faults: list[str]) -> None:
    """Raise `ConfigError` if there are any."""
    if faults:
        raise ConfigError("The recipe cannot be used: " + "; ".join(faults) + ".")


def _named(name: str, of: str) -> str:
    return f"{of}.{name}" if of else name
