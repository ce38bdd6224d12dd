"""What a file is made of: bytes, a file to copy, or tensors that become safetensors as they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from biject.checkpoint.bytes import tensor_bytes
from biject.checkpoint.layout import DEFAULT_METADATA, plan_layout

CHUNK_BYTES = 4 << 20
_ONE_FILE = 1 << 62


class Packed:
    """Tensors as one safetensors file, whose bytes are made piece by piece: it takes no memory of its own.

    The bytes are those of safetensors' own `save`, which holds the file twice while it makes it.

    Args:
        tensors: by name, one at least; on any device.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        layout = plan_layout(tensors, like=None, metadata=DEFAULT_METADATA, max_shard_bytes=_ONE_FILE)
        self.tensors, self._planned = tensors, layout.weights[0]

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The file's bytes in order."""
        yield self._planned.header
        for name in self._planned.names:
            data = tensor_bytes(self.tensors[name])
            for start in range(0, len(data), CHUNK_BYTES):
                yield data[start : start + CHUNK_BYTES]


Content = bytes | Path | Packed
"""Of one file: its bytes, a file to copy, or tensors."""
