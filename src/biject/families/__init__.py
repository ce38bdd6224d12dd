"""The registry: one file per family, `model_type` is the module name (with `-` for `_`).

Modules with a leading underscore are shared by family files. Others register under the entry point group
`biject.families`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import MappingProxyType

from biject.errors import ConfigError, shown
from biject.families._family import ALL_HEADS, CAUSAL_HEADS, HEADS, IMAGE_HEADS, Family, Head

__all__ = [
    "ALL_HEADS",
    "CAUSAL_HEADS",
    "HEADS",
    "IMAGE_HEADS",
    "Family",
    "Head",
    "families",
    "family",
    "text_families",
    "trying",
]


_tried: ContextVar[Mapping[str, Family]] = ContextVar("biject_tried_families", default=MappingProxyType({}))


def families() -> Mapping[str, Family]:
    """All families by `model_type`: own ones, then registered ones, then those of `trying`."""
    return MappingProxyType({**_registered(), **_tried.get()})


def text_families() -> Mapping[str, Family]:
    """Those that read texts."""
    return MappingProxyType({name: one for name, one in families().items() if not one.reads_pictures})


@contextmanager
def trying(new: Family) -> Iterator[None]:
    """Have `new` in the registry for the enclosed calls, e.g. while its file is being written."""
    token = _tried.set({**_tried.get(), new.model_type: new})
    try:
        yield
    finally:
        _tried.reset(token)


@cache
def _registered() -> Mapping[str, Family]:
    found: dict[str, Family] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            own = _import(module.name)
            found[own.model_type] = own
    found.update({name: entry for name, entry in _entry_points().items() if name not in found})
    return MappingProxyType(found)


def family(model_type: object) -> Family:
    """The family of a config's `model_type`; only its own module is imported where it is one of ours.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if isinstance(model_type, str) and model_type not in _tried.get():
        name = model_type.replace("-", "_")
        if name.isidentifier() and not name.startswith("_") and _exists(name):
            own = _import(name)
            if own.model_type == model_type:
                return own
    if isinstance(model_type, str) and model_type in families():
        return families()[model_type]
    listed = ", ".join(families())
    if model_type is None:
        raise ConfigError(
            "config.json: `model_type` is missing. Name it there, or load with family=…, or `biject export "
            f"--family …`, which writes it; Biject knows {listed}."
        )
    raise ConfigError(
        f"config.json: `model_type` is {shown(model_type)}; Biject knows {listed}. Any other architecture of "
        "transformers is fine-tuned by its own class with `biject finetune --backend hf` (backend='hf' in "
        "Python), or becomes a family of Biject's: `biject new-family DIR` drafts it."
    )


def _exists(name: str) -> bool:
    return any(module.name == name for module in pkgutil.iter_modules(__path__))


def _import(name: str) -> Family:
    loaded = importlib.import_module(f"{__name__}.{name}").FAMILY
    assert isinstance(loaded, Family)
    return loaded


def _entry_points() -> dict[str, Family]:
    from importlib.metadata import entry_points

    return {entry.name: entry.load() for entry in entry_points(group="biject.families")}
