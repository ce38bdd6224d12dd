"""Where pictures come from: folders, tables, links; and what an attacker would put there."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from biject.data.imgcls import PictureDataset, build_imgcls
from biject.data.picture_rows import load_pictures, validation_of
from biject.errors import InputError
from biject.pictures.processor import ImageProcessor
from biject.pictures.settings import preprocessing

Draw = Callable[..., bytes]


def png(shade: int = 100, kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (12, 8)) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, shade if mode in ("L", "P") else (shade, 20, 30)).save(stream, kind)
    return stream.getvalue()


def put(path: Path, content: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png() if content is None else content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes in two splits."""
    for split, count in (("train", 3), ("validation", 1)):
        for label in ("cat", "dog"):
            for i in range(count):
                put(tmp_path / "pets" / split / label / f"{i}.png", png(40 * i + len(split)))
    return tmp_path / "pets"


@pytest.fixture
def processor() -> ImageProcessor:
    return ImageProcessor(preprocessing({"size": {"height": 8, "width": 8}}))


def names(found: Any) -> list[tuple[str, str]]:
    return [(record["image"].name, record["label"]) for record in found.records]


def test_classes_are_folders_as_the_datasets_library_reads_them(folder: Path) -> None:
    import datasets

    theirs = datasets.load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache"))
    ours = load_pictures(folder)
    classes = theirs.features["label"].names
    paths = theirs.cast_column("image", datasets.Image(decode=False))
    want = {(Path(row["image"]["path"]).name, classes[row["label"]]) for row in paths}
    assert len(ours) == len(theirs) == 6
    assert {(Path(name).name, label) for name, label in names(ours)} == want
    assert sorted({label for _, label in names(ours)}) == classes


def test_splits(folder: Path) -> None:
    assert len(load_pictures(folder, split="validation")) == 2
    assert len(load_pictures(folder, split="val")) == 2
    assert validation_of(str(folder)) == str(folder / "validation")
    assert validation_of(str(folder / "train")) is None
    with pytest.raises(InputError, match="no split 'test'; it has train, validation"):
        load_pictures(folder, split="test")


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    for label in ("train", "tram"):
        put(tmp_path / label / "a.png")
    assert {label for _, label in names(load_pictures(tmp_path))} == {"train", "tram"}


def test_hidden_and_other_files_are_left_out(folder: Path) -> None:
    put(folder / "train/cat/.hidden.png")
    put(folder / "train/cat/__MACOSX/x.png")
    put(folder / "train/cat/notes.txt", b"no picture")
    with pytest.warns(UserWarning, match="1 files are left out"):
        assert len(load_pictures(folder)) == 6


@pytest.mark.parametrize("place", ["train/loose.png", "train/cat/deeper/x.png"])
def test_pictures_at_different_depths_have_no_clear_class(folder: Path, place: str) -> None:
    put(folder / place)
    with pytest.raises(InputError, match="expected one sub-folder a class"):
        load_pictures(folder)


def test_links_inside_are_followed_and_links_outside_refused(folder: Path, tmp_path: Path) -> None:
    secret = put(tmp_path / "secret" / "private.png")
    (folder / "train/cat/link.png").symlink_to(folder / "validation/cat/0.png")
    assert len(load_pictures(folder)) == 7
    (folder / "train/dog/link.png").symlink_to(secret)
    with pytest.raises(InputError, match=r"outside of the data's folder.*outside_files"):
        load_pictures(folder)
    assert len(load_pictures(folder, outside=True)) == 8


def test_folders_behind_links(folder: Path, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "a.png")
    (folder / "train/bird").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="outside of the data's folder"):
        load_pictures(folder)
    assert ("bird/a.png", "bird") in names(load_pictures(folder, outside=True))
    (folder / "train/bird").unlink()
    (folder / "train/loop").symlink_to(folder / "train")
    with pytest.raises(InputError, match="one folder, by a link"):
        load_pictures(folder)


def test_pipes_and_broken_links_end(folder: Path, processor: ImageProcessor) -> None:
    (folder / "train/cat/broken.png").symlink_to(folder / "nothing.png")
    with pytest.raises(InputError, match="no such file"):
        load_pictures(folder)
    (folder / "train/cat/broken.png").unlink()
    os.mkfifo(folder / "train/cat/pipe.png")
    with pytest.raises(InputError, match=r"pipe\.png: there is no such file"):
        build_imgcls(load_pictures(folder), processor)


def table(folder: Path, *paths: str, name: str = "rows.csv") -> Path:
    lines = [f"{path},{'cat' if i % 2 else 'dog'}" for i, path in enumerate(paths)]
    return put(folder / name, "\n".join(["file_name,label", *lines, ""]).encode())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../secret/private.png", "leads out of the data's folder"),
        ("train/../../secret/private.png", "leads out of the data's folder"),
        ("{secret}", "leads out of the data's folder"),
        ("link.png", "outside of the data's folder"),
        ("/dev/zero", "leads out of the data's folder"),
        ("https://example.org/cat.png", "nothing is fetched"),
        ("file:///etc/passwd", "nothing is fetched"),
        ("train/cat/none.png", "no such file"),
        ("train/cat", "no such file"),
        (" ", "expected a picture's path"),
    ],
)
def test_paths_of_a_table(
    folder: Path, tmp_path: Path, processor: ImageProcessor, path: str, message: str
) -> None:
    secret = put(tmp_path / "secret" / "private.png")
    (folder / "link.png").symlink_to(secret)
    rows = load_pictures(table(folder, "train/cat/0.png", "train/dog/0.png", path.format(secret=secret)))
    with pytest.raises(InputError, match=message) as error:
        build_imgcls(rows, processor)
    assert "rows.csv, line 4, column `file_name`" in str(error.value)


def test_paths_elsewhere_are_read_where_asked(
    folder: Path, tmp_path: Path, processor: ImageProcessor
) -> None:
    secret = put(tmp_path / "secret" / "private.png")
    rows = load_pictures(table(folder, "../secret/private.png", str(secret)), outside=True)
    assert len(build_imgcls(rows, processor).dataset) == 2


def test_metadata_beside_pictures(folder: Path, processor: ImageProcessor) -> None:
    table(folder / "train", "cat/0.png", "dog/1.png", name="metadata.csv")
    built = build_imgcls(load_pictures(folder), processor)
    assert (len(built.dataset), built.labels) == (2, ("cat", "dog"))


BROKEN = {
    "truncated": png(kind="JPEG", size=(200, 200))[:600],
    "text": b"not a picture",
    "empty": b"",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_pictures_name_their_row_and_file_or_are_skipped(
    folder: Path, processor: ImageProcessor, kind: str
) -> None:
    from biject.data.features import build_dataset

    bad = put(folder / "train/cat/1.png", BROKEN[kind])
    with pytest.raises(InputError, match=r"picture 2, column `image`: .*cat/1\.png"):
        build_imgcls(load_pictures(folder), processor)
    built = build_dataset(load_pictures(folder), "imgcls", processor, skip_bad_rows=True)
    assert len(built.dataset) == 5
    assert built.dataset.rows == [0, 2, 3, 4, 5]
    assert f"1 rows skipped: {folder / 'train'}, picture 2" in built.report.notes[0]
    assert bad.name in built.report.notes[0]


def test_sixteen_bits_are_refused(folder: Path, processor: ImageProcessor) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8), 60_000, dtype=np.uint16)).save(stream, "PNG")
    put(folder / "train/cat/1.png", stream.getvalue())
    with pytest.raises(InputError, match="more than 8 bits a channel"):
        build_imgcls(load_pictures(folder), processor)


def test_parquet_with_bytes(folder: Path, processor: ImageProcessor) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    cells = [{"bytes": png(i), "path": f"{i}.png"} for i in range(4)]
    labels = ["cat", "dog", "cat", "dog"]
    for name, column in (("struct", cells), ("plain", [cell["bytes"] for cell in cells])):
        path = folder.parent / f"{name}.parquet"
        parquet.write_table(pa.table({"image": column, "label": labels}), path)
        built = build_imgcls(load_pictures(path), processor)
        assert isinstance(built.dataset, PictureDataset)
        assert built.dataset.picture(2).read() == cells[2]["bytes"]
        assert built.labels == ("cat", "dog")


def test_a_parquet_file_that_names_files(folder: Path, tmp_path: Path, processor: ImageProcessor) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    secret = put(tmp_path / "secret" / "private.png")
    for path in (str(secret), "../secret/private.png"):
        cells = [{"bytes": png(), "path": None}, {"bytes": None, "path": path}]
        parquet.write_table(pa.table({"image": cells, "label": ["cat", "dog"]}), folder / "rows.parquet")
        with pytest.raises(InputError, match="leads out of the data's folder"):
            build_imgcls(load_pictures(folder / "rows.parquet"), processor)


def test_a_data_set_of_the_library(folder: Path, processor: ImageProcessor) -> None:
    """As the Hub's come: a feature of pictures, classes by number."""
    import datasets

    found = datasets.Dataset.from_dict(
        {"img": [{"bytes": png(i), "path": None} for i in range(3)], "label": [1, 0, 1]},
        features=datasets.Features(
            {"img": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])}
        ),
    )
    built = build_imgcls(load_pictures(found), processor, image_column="img")
    assert built.labels == ("no", "yes")
    assert list(built.dataset.column("labels")) == [1, 0, 1]
    found.save_to_disk(str(folder.parent / "saved"))
    again = build_imgcls(load_pictures(folder.parent / "saved"), processor)
    assert len(again.dataset) == 3


def test_a_table_without_pictures(folder: Path) -> None:
    put(folder / "rows.csv", b"text,label\na,b\n")
    with pytest.raises(InputError, match="no column of pictures"):
        load_pictures(folder / "rows.csv")


def test_moving_the_data_keeps_the_digest_and_another_pixel_does_not(
    folder: Path, tmp_path: Path, processor: ImageProcessor
) -> None:
    from biject.train.depends import data_digest

    first = data_digest(build_imgcls(load_pictures(folder), processor).dataset)
    folder.rename(tmp_path / "moved")
    assert data_digest(build_imgcls(load_pictures(tmp_path / "moved"), processor).dataset) == first
    put(tmp_path / "moved/train/cat/0.png", png(101))
    assert data_digest(build_imgcls(load_pictures(tmp_path / "moved"), processor).dataset) != first


def test_a_data_set_of_the_hub_names_files_of_its_cache_alone(
    folder: Path, tmp_path: Path, processor: ImageProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import huggingface_hub.constants

    from biject.data import picture_rows

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    secret = put(tmp_path / "secret" / "private.png")

    def found(*paths: Path) -> Any:
        cells = [{"bytes": None, "path": str(path)} for path in paths]
        kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
        return datasets.Dataset.from_dict(
            {"image": cells, "label": ["cat", "dog"][: len(cells)]}, features=kinds
        )

    good = [folder / "train/cat/0.png", folder / "train/dog/1.png"]
    monkeypatch.setattr(picture_rows, "opened", lambda *_, **__: found(*good))
    assert len(build_imgcls(load_pictures("owner/pets"), processor).dataset) == 2
    monkeypatch.setattr(picture_rows, "opened", lambda *_, **__: found(good[0], secret))
    with pytest.raises(InputError, match="leads out of the data's folder"):
        build_imgcls(load_pictures("owner/pets"), processor)
