"""Pictures to predict on: files and folders from arguments, or what a table or a list names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from biject.cli.texts import Inputs, read_inputs
from biject.errors import BijectError, InputError

_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")


def reads_pictures(model: str, family: str | None = None) -> bool:
    """Whether a checkpoint is of a model of pictures; one that cannot be read is for others to refuse.

    `family`: what the folder is, where its config.json does not say.
    """
    from biject.checkpoint.adapter import base_folder, is_adapter, read_adapter
    from biject.checkpoint.hub import resolve_folder
    from biject.checkpoint.strict_json import parse_object, read_small_file
    from biject.families import family as family_of

    try:
        if family is not None:
            return family_of(family).reads_pictures
        folder = resolve_folder(model)
        if is_adapter(folder):
            folder = base_folder(read_adapter(folder))
        path = folder / "config.json"
        config = parse_object(read_small_file(path, what=path.name), where=str(path))
        return family_of(config.get("model_type")).reads_pictures
    except BijectError:
        return False


def read_pictures(
    given: Sequence[str], *, file: Path | None, column: Sequence[str] | None, delimiter: str | None
) -> tuple[Inputs, list[object]]:
    """What to predict on, by name, and the pictures themselves, unread.

    Paths in a file start from its folder. As nothing of a picture but its labels comes out, they may lead
    anywhere.

    Raises:
        InputError: There is none, there are two sources, or a path is no picture's.
    """
    if given and file is not None:
        raise InputError("Give pictures as arguments or in --file, not both.")
    if column is not None and len(column) > 1:
        raise InputError(f"--text-column takes one column of pictures; found {len(column)}.")
    if file is not None and file.suffix.lower() in _TABLES:
        return _of_table(file, column[0] if column else None, delimiter)
    names = given or read_inputs((), file=file, text_column=column, delimiter=delimiter).items
    start = Path() if file is None or str(file) == "-" else file.parent
    pictures: list[object] = []
    items: list[str] = []
    for name in map(str, names):
        found = _of_path(start / name, name)
        pictures += [one for _, one in found]
        items += [shown for shown, _ in found]
    return Inputs(items=[_printable(item) for item in items]), pictures


def _printable(name: str) -> str:
    """A file's name that is no Unicode, as text."""
    return name.encode(errors="backslashreplace").decode()


def _of_path(path: Path, name: str) -> list[tuple[str, object]]:
    """A file, or every picture below a folder."""
    from biject.data.picture_folder import pictures_in
    from biject.data.stored import FilePicture

    if path.is_dir():
        return [(str(Path(name) / one.name), one) for one in pictures_in(path)]
    if not path.is_file():
        raise InputError(f"{name}: there is no such file or folder; this model reads pictures, not texts.")
    return [(name, FilePicture(str(path), name))]


def _of_table(file: Path, column: str | None, delimiter: str | None) -> tuple[Inputs, list[object]]:
    from biject.data.picture_rows import find_image_column, load_pictures
    from biject.data.stored import STORED
    from biject.errors import shown

    rows = load_pictures(file, image_column=column, outside=True, delimiter=delimiter)
    name = find_image_column(rows, column)
    pictures: list[object] = []
    items: list[str] = []
    for index, value in enumerate(rows.column(name)):
        if not isinstance(value, STORED):
            raise rows.fault(index, name, f"expected a picture's path or bytes, found {shown(value)}.")
        pictures.append(value)
        items.append(_printable(value.name))
    records = [{**record, name: item} for record, item in zip(rows.records, items, strict=True)]
    return Inputs(items=list(items), columns=rows.columns, records=records, used=(name,)), pictures
