"""A look at a pickle before torch's restricted unpickler has it: long texts and nonsense are refused.

That unpickler runs no code, but it searches its own error messages, which quote the file, with patterns that
take time quadratic in their length (torch 2.13, serialization.py): a name of a megabyte would take hours.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path

from biject.errors import CheckpointError

MAX_TEXT = 2_000
"""Characters in one text of a pickle; names of tensors and classes have a tenth of it."""
MAX_PICKLE_BYTES = 50_000_000
"""Without the tensors' data; about 300 bytes a tensor."""
_LEGACY_PICKLES = 5  # magic number, protocol, system, the object, the keys of its storages


def check_archive(archive: zipfile.ZipFile, file: str) -> None:
    """Check the pickles in an archive of `torch.save`.

    Raises:
        CheckpointError: One is too large, damaged, or has a text beyond all reason.
    """
    for record in archive.infolist():
        if record.filename.rsplit("/", 1)[-1] == "data.pkl":
            if record.file_size > MAX_PICKLE_BYTES:
                raise _refused(
                    file, f"a pickle of {record.file_size} bytes, of which the tensors are no part"
                )
            _check(io.BytesIO(archive.read(record)), file)


def check_legacy(path: Path) -> None:
    """Check the pickles at the start of a file that torch wrote before version 1.6.

    Raises:
        CheckpointError: As `check_archive`.
    """
    with path.open("rb") as stream:
        start = io.BytesIO(stream.read(MAX_PICKLE_BYTES))
    for _ in range(_LEGACY_PICKLES):
        _check(start, path.name)


def _check(stream: io.BytesIO, file: str) -> None:
    try:
        for _, value, _ in pickletools.genops(stream):
            if isinstance(value, str | bytes | bytearray) and len(value) > MAX_TEXT:
                raise _refused(file, f"a text of {len(value)} characters")
    except (ValueError, IndexError, EOFError, OverflowError, MemoryError) as error:
        raise CheckpointError(
            f"{file} is not a PyTorch file that can be read, or is cut short (its pickle is damaged: "
            f"{error}). Fetch it again."
        ) from error


def _refused(file: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"{file} contains more than tensors: its pickle has {what}. Load it with the program that wrote it "
        "and save the plain state dict, best as safetensors."
    )
