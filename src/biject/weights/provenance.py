"""`Provenance`: what a model remembers of the folder it came from, so that export writes what came in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from biject.weights.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The file's side of a loaded model."""

    plan: Plan
    hf_config: Mapping[str, Any]
    """config.json as it was read."""
    head: str
    """The head that was built."""
    file_head: str
    """The head that the file itself has (`--head auto`)."""
    architecture: str | None
    """The class that config.json names, if any."""
    dtypes: Mapping[str, str] = field(default_factory=dict)
    """safetensors dtype of every tensor in the file, by its name on disk."""
    initialized: tuple[str, ...] = ()
    """Memory names of parameters that were made new."""
    merged: Mapping[str, Any] = field(default_factory=dict)
    """Of an adapter that was merged: `adapter`, what is known of it, and `parameters`, the memory names of
    those that it changed.
    """

    @property
    def keeps_head(self) -> bool:
        """Whether the built head is the file's own, so that nothing needs to be normalised or left out."""
        return self.head == self.file_head and not self.initialized
