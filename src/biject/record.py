"""`biject.json`: what an export declares to be different from the checkpoint that it was made from.

An export that changes nothing has none. The verifier fails every difference that is not declared here and
that its user does not allow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from biject._version import __version__
from biject.checkpoint.strict_json import MAX_CONFIG_BYTES, parse_object, read_small_file
from biject.errors import CheckpointError

RECORD = "biject.json"
_MEANING = (
    "What differs from the checkpoint that this folder was made from; new parameters began as random values."
)


@dataclass(frozen=True, kw_only=True)
class Record:
    """Declared differences."""

    head: str = ""
    """The head that was written, where it is another one or new."""
    new_parameters: tuple[str, ...] = ()
    """Tensors that were not in the source; they started from random values."""
    replaced: Mapping[str, str] = field(default_factory=dict)
    """What stood where the source has such a name, too: the sha256 of its bytes, empty for no file. Of new
    tensors; of merged and resized ones and of files where the source's own record names them as well. It
    tells what was made new, merged, resized or written again from a copy of what was so before."""
    left_out: tuple[str, ...] = ()
    """Tensors of the source that the written head does not use."""
    resized: tuple[str, ...] = ()
    """Tensors with another number of rows, for added tokens."""
    cast: str = ""
    """The dtype that floating-point tensors were cast to, as torch names it."""
    not_cast: tuple[str, ...] = ()
    """Floating-point tensors that kept another one."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Keys of config.json with other values; None for removed ones."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Other files: `added`, `changed` or `left out`."""
    merged: tuple[str, ...] = ()
    """Tensors that an adapter was merged into."""
    adapter: Mapping[str, Any] = field(default_factory=dict)
    """What is known of the adapter that was merged: rank, alpha, the sha256 of its tensors."""

    def __bool__(self) -> bool:
        return self != Record(head=self.head)

    def on(self, before: Record) -> Record:
        """This one's differences from a folder that has a record of its own, `before`."""
        known = dict.fromkeys((*before.new_parameters, *self.new_parameters))
        values = {**asdict(before), **{key: value for key, value in asdict(self).items() if value}}
        merged = {
            "new_parameters": tuple(known),
            "replaced": self.replaced,  # of the source's own bytes, and of no older folder's
            "config": {**before.config, **self.config},
            "files": {**before.files, **self.files},
            "merged": tuple(dict.fromkeys((*before.merged, *self.merged))),
        }
        return Record(**{**values, **merged})

    def to_bytes(self) -> bytes:
        """The file."""
        said = {key: value for key, value in asdict(self).items() if value}
        record = {"biject_version": __version__, **said, "meaning": _MEANING}
        return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """A folder's record; an empty one where it declares nothing that can be read."""
        if not (folder / RECORD).is_file():
            return cls()
        try:
            data = read_small_file(folder / RECORD, what=RECORD, limit=MAX_CONFIG_BYTES)
            found = parse_object(data, where=RECORD)
        except CheckpointError:
            return cls()
        values: dict[str, Any] = {
            key: found[key] for key in ("head", "cast") if isinstance(found.get(key), str)
        }
        values |= {
            key: tuple(each for each in found[key] if isinstance(each, str))
            for key in ("new_parameters", "left_out", "resized", "not_cast", "merged")
            if isinstance(found.get(key), list)
        }
        values |= {
            key: found[key]
            for key in ("config", "files", "replaced", "adapter")
            if isinstance(found.get(key), dict)
        }
        return cls(**values)
