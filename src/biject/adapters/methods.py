"""What models can do with adapters, under the names that PEFT and transformers have for it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from biject.adapters.state import activate, adapters_of, remove, without_adapters
from biject.config.adapter import HasDict, LoraConfig
from biject.model import Model


class AdapterMethods(Model):
    """A model that adapters can be added to."""

    def add_adapter(self, config: LoraConfig | HasDict, name: str = "default") -> None:
        """Add a new adapter and make it the active one: only its parameters require gradients then.

        Args:
            config: `biject.LoraConfig`, with PEFT's names, or PEFT's own.
            name: what to call it.

        Raises:
            ConfigError: the settings fit no module; the message names the nearest.
        """
        from biject.adapters.make import add_adapter

        own = config if isinstance(config, LoraConfig) else LoraConfig.from_object(config)
        add_adapter(self, own, name)

    def load_adapter(self, folder: str | Path, name: str = "default", *, trainable: bool = False) -> None:
        """Add the adapter of a folder (PEFT's files) and make it the active one.

        Args:
            folder: with `adapter_config.json` and its tensors.
            name: what to call it.
            trainable: have its parameters require gradients.

        Raises:
            CheckpointError, ConfigError, WeightsError: it is damaged, or of another base or head.
        """
        from biject.adapters.load import load_adapter

        load_adapter(self, folder, name, trainable=trainable)

    def save_adapter(self, folder: str | Path, *, name: str | None = None, force: bool = False) -> None:
        """Write the active adapter, or the one called `name`, as PEFT does, with the trained head.

        What `declare_adapter` declared is written beside it, to files of its own.

        Raises:
            ConfigError: there is none; or its files could not hold all that is new.
            CheckpointError: the folder exists (and not `force`), or cannot be written.
        """
        from biject.adapters.file import save_adapter

        save_adapter(self, folder, name=name, force=force)

    def set_adapter(self, names: str | Sequence[str]) -> None:
        """Compute this adapter, or the sum of these, and train it.

        Raises:
            ConfigError: there is no such adapter, or two have a head of their own.
        """
        activate(self, (names,) if isinstance(names, str) else tuple(names))

    def disable_adapter(self) -> AbstractContextManager[None]:
        """The base's own outputs inside of a `with` block."""
        return without_adapters(self)

    def delete_adapter(self, name: str) -> None:
        """Take an adapter away.

        Raises:
            ConfigError: there is no such adapter.
        """
        there = adapters_of(self)
        if name not in there.adapters:
            activate(self, (name,))  # says so
        remove(self, [name])

    def merge_adapter(self) -> None:
        """Put the active adapter into the base, as PEFT's `merge_and_unload` does; no adapter is left.

        Raises:
            ConfigError, WeightsError: it cannot be merged.
        """
        from biject.adapters.merge import merge_adapter

        merge_adapter(self)

    @property
    def active_adapters(self) -> tuple[str, ...]:
        """Names of the adapters that are computed."""
        return () if self.adapters is None else adapters_of(self).active
