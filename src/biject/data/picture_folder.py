"""Folders of pictures: one sub-folder a class, in sub-folders for training, validation and test where there
are such; as the `datasets` library's `imagefolder` and torchvision's `ImageFolder` read them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from biject.data.stored import WAY_OUT, FilePicture, Home
from biject.data.table import Rows
from biject.errors import InputError, shown
from biject.events import notice
from biject.pictures.files import SUFFIXES

IMAGE, LABEL = "image", "label"
METADATA = ("metadata.csv", "metadata.jsonl")
"""Tables that stand beside pictures and say more than folders can."""
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


def split_folders(folder: Path) -> dict[str, Path]:
    """Sub-folders by the split that they are for; none where other sub-folders stand beside them."""
    names = [path for path in sorted(folder.iterdir()) if path.is_dir() and not _is_hidden(path.name)]
    found: dict[str, Path] = {}
    for path in names:
        split = next((split for split, names in _SPLITS.items() if path.name.lower() in names), None)
        if split is None:
            return {}
        if split in found:
            raise InputError(f"{folder} has two folders for {split}: {found[split].name} and {path.name}.")
        found[split] = path
    return found


def has_pictures(folder: Path) -> bool:
    """Whether a picture or a table about pictures is in a folder or below it."""
    return any(path.suffix.lower() in SUFFIXES or path.name in METADATA for path, _ in _walk(folder))


def read_folder(folder: Path, *, split: str, outside: bool = False) -> Rows:
    """Pictures (column `image`) and their classes (`label`) by folder.

    Raises:
        InputError: There is no such split, no picture, pictures that stand at different depths, or a link
            that leads out of the folder.
    """
    place = split_folder(folder, split)
    home = Home.of(folder, outside=outside)
    pictures: list[FilePicture] = []
    others: list[Path] = []
    for path, is_link in _walk(place, home):
        if path.suffix.lower() in SUFFIXES:
            name = path.relative_to(place).as_posix()
            pictures.append(home.inside(path, name=name) if is_link else FilePicture(str(path), name))
        else:
            others.append(path)
    if not pictures:
        raise InputError(f"{place} has no pictures: expected files that end in {', '.join(SUFFIXES)}.")
    if others:
        notice(
            "other-files",
            f"{place}: {len(others)} files are left out, as their names are no picture's; the first is "
            f"{shown(others[0].name)}.",
        )
    _check_depth(place, pictures)
    records = [{IMAGE: one, LABEL: _class(place, Path(one.name).parent.name)} for one in pictures]
    numbers = range(1, len(records) + 1)
    return Rows(source=str(place), columns=(IMAGE, LABEL), records=records, numbers=numbers, unit="picture")


def pictures_in(folder: Path) -> list[FilePicture]:
    """Every picture below a folder, whatever folder it stands in.

    Raises:
        InputError: There is none, or a link leads out of the folder.
    """
    home = Home.of(folder)
    found = [
        home.inside(path, name=path.relative_to(folder).as_posix())
        for path, _ in _walk(folder, home)
        if path.suffix.lower() in SUFFIXES
    ]
    if not found:
        raise InputError(f"{folder} has no pictures: expected files that end in {', '.join(SUFFIXES)}.")
    return found


def split_folder(folder: Path, split: str) -> Path:
    """The split's own folder, or the folder itself where there are no splits.

    Raises:
        InputError: There are splits, and not this one.
    """
    splits = split_folders(folder)
    name = next((known for known, names in _SPLITS.items() if split.lower() in names), split)
    if not splits or any((folder / table).is_file() for table in METADATA):
        return folder
    if name not in splits:
        raise InputError(f"{folder} has no split {shown(split)}; it has {', '.join(splits)}.")
    return splits[name]


def _class(place: Path, name: str) -> str:
    """A folder's name as a class.

    Raises:
        InputError: It is no Unicode, which the model's config.json could not hold.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{place}: the folder {shown(name)} is to be a class, and its name is no UTF-8. Rename it."
        ) from error
    return name


def _check_depth(place: Path, pictures: list[FilePicture]) -> None:
    """Classes are known where all pictures stand equally deep, below one folder each."""
    depths = {len(Path(one.name).parts): one.name for one in pictures}
    if len(depths) > 1 or 1 in depths:
        listed = ", ".join(shown(name) for _, name in sorted(depths.items())[:2])
        raise InputError(
            f"{place}: expected one sub-folder a class with its pictures in it, found {listed}. Move the "
            "pictures, or name them in a table with a column of paths."
        )
    if 2 not in depths:
        notice(
            "deep-classes",
            f"{place}: the folder that a picture stands in is its class, as in the `datasets` library; in "
            f"{shown(next(iter(depths.values())))} the folders above it say nothing.",
        )


def _walk(folder: Path, home: Home | None = None) -> Iterator[tuple[Path, bool]]:
    """All files in their order, and whether links led to them; hidden ones are passed over.

    Args:
        folder: Where to begin.
        home: What links must not lead out of; without one, links to folders are not followed.

    Raises:
        InputError: A link to a folder leads out of the home, or two ways lead to one folder.
    """
    seen: dict[Path, Path] = {}
    waiting = [(folder, False)]
    while waiting:
        place, is_link = waiting.pop()
        real = place.resolve()
        if home is not None and is_link and not home.outside and not real.is_relative_to(home.folder):
            raise InputError(f"{place} is a link to {real}, which is outside of the data's folder.{WAY_OUT}")
        if real in seen:
            raise InputError(f"{place} and {seen[real]} are one folder, by a link: remove one of them.")
        seen[real] = place
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{place} cannot be read: {error.strerror}.") from error
        below = []
        for entry in entries:
            linked = is_link or entry.is_symlink()
            if _is_hidden(entry.name) or (home is None and linked):
                continue
            if entry.is_dir():
                below.append((Path(entry.path), linked))
            else:
                yield Path(entry.path), linked
        waiting += reversed(below)


def _is_hidden(name: str) -> bool:
    """As in the `datasets` library."""
    return name.startswith((".", "__"))
