"""Pictures where they are stored: files, which may stand in the data's folder only, or bytes in a table."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from biject.errors import InputError, shown


class Picture(Protocol):
    """A picture that is read when it is needed."""

    @property
    def name(self) -> str:
        """What reports call it; no folder of this machine is in it."""

    @property
    def place(self) -> str:
        """Where it is, for messages."""

    def read(self) -> bytes:
        """Its file's content.

        Raises:
            InputError: It cannot be read.
        """


@dataclass(frozen=True, slots=True)
class FilePicture:
    """In a file of its own."""

    path: str
    name: str

    @property
    def place(self) -> str:
        return self.path

    def read(self) -> bytes:
        path = Path(self.path)
        if not path.is_file():  # a pipe or a device would never end
            raise InputError(f"{self.path}: there is no such file.")
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}.") from error


@dataclass(frozen=True, slots=True)
class BytesPicture:
    """In memory."""

    content: bytes
    place: str
    name: str

    def read(self) -> bytes:
        return self.content


@dataclass(frozen=True, slots=True)
class CellPicture:
    """In a cell of a table of the `datasets` library, which maps its file."""

    table: Any
    column: str
    row: int
    place: str
    name: str

    def read(self) -> bytes:
        found = bytes_of(self.table[self.row][self.column])
        if found is None:
            raise InputError(f"{self.place}: the picture has no bytes.")
        return found


def bytes_of(cell: object) -> bytes | None:
    """The bytes in a cell: plain ones, or those of Hugging Face's `{"bytes": …, "path": …}`."""
    found = cell.get("bytes") if isinstance(cell, dict) else cell
    return bytes(found) if isinstance(found, bytes | bytearray | memoryview) else None


@dataclass(frozen=True, kw_only=True)
class Home:
    """The folder that pictures may stand in.

    Attributes:
        folder: With links resolved.
        start: What paths in a table start from, where that is a folder inside of it.
        outside: Files elsewhere are read, too.
    """

    folder: Path
    start: Path | None = None
    outside: bool = False

    @classmethod
    def of(cls, folder: Path, *, outside: bool = False) -> Home:
        """With links resolved: the folder that the user named may be one."""
        return cls(folder=folder.resolve(), outside=outside)

    def file(self, text: str) -> FilePicture:
        """The file that a table names, from the home's folder.

        Raises:
            InputError: It is elsewhere, or there is no such file.
        """
        if "\0" in text or not text.strip():
            raise InputError(f"expected a picture's path, found {shown(text)}.")
        if "://" in text:
            raise InputError(
                f"expected a picture's path, found {shown(text)}: nothing is fetched from there."
            )
        path = Path(text)
        if not self.outside and (path.is_absolute() or ".." in path.parts):
            raise InputError(f"{shown(text)} leads out of the data's folder.{WAY_OUT}")
        return self.inside((self.start or self.folder) / path, name=text)

    def inside(self, path: Path, *, name: str) -> FilePicture:
        """A file with its links resolved.

        Raises:
            InputError: It is elsewhere, no file, or a loop of links.
        """
        try:
            real = path.resolve(strict=True)
            there = real.is_file()
        except (OSError, RuntimeError, ValueError):
            real, there = path, False
        if not there:
            raise InputError(f"{path}: there is no such file.")
        if not self.outside and not real.is_relative_to(self.folder):
            raise InputError(f"{path} is a link to {real}, which is outside of the data's folder.{WAY_OUT}")
        return FilePicture(str(path), name)


@dataclass(frozen=True, slots=True)
class PathPicture:
    """In the file that a table names; where that leads to is looked at whenever it is read."""

    home: Home
    name: str

    @property
    def place(self) -> str:
        return (
            str((self.home.start or self.home.folder) / self.name)
            if "\0" not in self.name
            else shown(self.name)
        )

    def read(self) -> bytes:
        return self.home.file(self.name).read()


STORED = (FilePicture, PathPicture, BytesPicture, CellPicture)
"""All kinds."""

WAY_OUT = " `outside_files = true` (--set outside_files=true) reads such files."


def digest_of(content: bytes) -> bytes:
    """Of a picture's file, to know it again."""
    return hashlib.sha256(content).digest()
