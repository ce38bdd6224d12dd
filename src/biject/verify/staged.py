"""What transformers may see of a checked folder: its config and its weights, and nothing else.

`from_pretrained` does more than to read these: it loads an adapter that it finds, asks whether to run the
folder's own Python files, and falls back to further weight files. None of that belongs to a comparison, and
nothing that a folder brings is ever executed.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from biject.checkpoint.source import CONFIG, Source


@contextlib.contextmanager
def staged(source: Source) -> Iterator[Path]:
    """A folder with links to the source's config.json, its weights and their index."""
    names = [CONFIG, *source.weight_files]
    names += [source.index_file] if source.index_file is not None else []
    with tempfile.TemporaryDirectory(prefix="biject-verify-") as temporary:
        for name in names:
            (Path(temporary) / name).symlink_to((source.folder / name).resolve())
        yield Path(temporary)
