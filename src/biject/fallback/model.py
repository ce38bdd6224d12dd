"""`FallbackModel`: what `from_pretrained(…, backend="hf")` returns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from biject.checkpoint.content import Content
from biject.checkpoint.sizes import parse_bytes
from biject.checkpoint.writer import Seal
from biject.errors import ConfigError
from biject.fallback.body import FallbackBody

if TYPE_CHECKING:
    from biject.config.adapter import LoraConfig
    from biject.fallback.gains import Gain


class FallbackModel(FallbackBody):
    """transformers' model, trained, saved and adapted as ours are."""

    def gains(self) -> tuple[Gain, ...]:
        """Which of Biject's gains this model has, and which not."""
        from biject.fallback.gains import gains

        return gains(self)

    def save_pretrained(
        self, folder: str | Path, *, max_shard_size: int | str | None = None, force: bool = False
    ) -> None:
        """Write a complete Hugging Face folder; what is unchanged of config.json and assets stays as it was.

        Args:
            folder: one that does not exist yet, or with `force` an export that is replaced.
            max_shard_size: of a weight file, in bytes or as `5GB`.
            force: replace the folder.

        Raises:
            ConfigError: there are adapters.
            CheckpointError: the folder exists (and not `force`), or cannot be written.
        """
        from biject.fallback.saving import save_fallback

        size = parse_bytes(max_shard_size) if isinstance(max_shard_size, str) else max_shard_size
        save_fallback(self, Path(folder), max_shard_bytes=size, force=force)

    def write_checkpoint(
        self, folder: Path, state: Mapping[str, Content], *, without: Collection[str], seal: Seal | None
    ) -> None:
        """Write a training run's checkpoint: a model's folder, or with an adapter PEFT's."""
        from biject.fallback.saving import write_checkpoint

        write_checkpoint(self, folder, state, without=without, seal=seal)

    def read_checkpoint(self, folder: Path) -> None:
        """Put a checkpoint's weights into the model, in place."""
        from biject.fallback.saving import read_checkpoint

        read_checkpoint(self, folder)

    def add_adapter(self, config: LoraConfig) -> None:
        """Give the model PEFT's adapter: only its parameters, and what is new, train then.

        Raises:
            ConfigError: the settings fit no module.
        """
        from biject.fallback.adapter import add_adapter

        add_adapter(self, config)

    def save_adapter(self, folder: str | Path, *, force: bool = False) -> None:
        """Write the adapter as PEFT does.

        Raises:
            ConfigError: there is none.
            CheckpointError: the folder exists (and not `force`), or cannot be written.
        """
        from biject.fallback.adapter import save_adapter

        save_adapter(self, Path(folder), force=force)

    def merge_adapter(self) -> None:
        """PEFT's `merge_and_unload`; no adapter is left."""
        if self.adapters is None:
            raise ConfigError("There is no adapter to merge.")
        self.hf = self.hf.merge_and_unload()
        self.adapters = None
        self.hf.requires_grad_(True)

    def disable_adapter(self) -> AbstractContextManager[None]:
        """The base's own outputs inside of a `with` block."""
        if self.adapters is None:
            raise ConfigError("There is no adapter to disable.")
        found: AbstractContextManager[None] = self.hf.disable_adapter()
        return found
