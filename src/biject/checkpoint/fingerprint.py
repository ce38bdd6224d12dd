"""A checkpoint's weights in one short text: headers whole, numbers by samples, so that 10 GB take no time."""

from __future__ import annotations

import hashlib

from biject.checkpoint.source import Source

_BLOCK = 4096
_SAMPLES = 64


def weights_fingerprint(source: Source) -> str:
    """sha256 over names, sizes and 64 blocks of each weight file: other weights have another one.

    A tensor that was changed alone, between the samples, is not seen; it tells bases apart, and is no proof.
    """
    digest = hashlib.sha256()
    for name in source.weight_files:
        path = source.folder / name
        size = path.stat().st_size
        digest.update(f"{size} ".encode())
        with path.open("rb") as stream:
            for sample in range(_SAMPLES):
                stream.seek(max(0, (size - _BLOCK) * sample // (_SAMPLES - 1)))
                digest.update(stream.read(_BLOCK))
    return f"sampled-sha256:{digest.hexdigest()}"
