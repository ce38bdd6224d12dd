"""Pictures with a class, several classes, or a number; their pixels are read batch by batch."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from biject.config.augment import PLAIN, AugmentConfig
from biject.config.model import ProblemType
from biject.data.dataset import Built, Dataset, Report, Sample
from biject.data.labels import read_targets
from biject.data.picture_rows import find_image_column
from biject.data.stored import STORED, Picture
from biject.data.table import Rows
from biject.data.texts import find_column
from biject.errors import InputError, shown
from biject.events import progress
from biject.pictures.augment import Draw
from biject.pictures.files import check_header, open_picture
from biject.pictures.processor import ImageProcessor


class Look(NamedTuple):
    """What is known of a picture: sha256 of its file; its width and height."""

    digest: bytes
    size: tuple[int, int]


_LABEL = ("label", "labels")
PICTURE, DRAW = "picture", "draw"


class PictureDataset(Dataset):
    """Samples that name their picture; a `PictureCollator` reads it.

    Attributes:
        digests: sha256 of every picture's file.
        augment: How pictures are changed, or `PLAIN`.
        seed: Of these changes.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        labels: Sequence[Any],
        *,
        digests: Sequence[bytes],
        names: Sequence[str],
        problem_type: ProblemType | None,
        augment: AugmentConfig = PLAIN,
        seed: int = 0,
    ) -> None:
        super().__init__(
            "imgcls",
            {PICTURE: pictures, "labels": labels},
            rows=range(len(pictures)),
            labels=names,
            problem_type=problem_type,
            lengths=[1] * len(pictures),
        )
        self.digests = list(digests)
        self.augment, self.seed, self.epoch = augment, seed, 0

    def sample(self, index: int) -> Sample:
        """The picture unread, its label, and what its changes are drawn by."""
        sample = super().sample(index)
        if self.augment.changes:
            sample[DRAW] = Draw(self.seed, self.epoch, index)
        return sample

    def picture(self, index: int) -> Picture:
        """A sample's picture."""
        found: Any = self.column(PICTURE)[index]
        assert isinstance(found, STORED)
        return found

    def plain(self) -> PictureDataset:
        """The same, with pictures as they are."""
        found = copy.copy(self)
        found.augment = PLAIN
        return found

    def set_epoch(self, epoch: int) -> None:
        """Draw the changes of another epoch."""
        self.epoch = epoch

    def digest_into(self, digest: Any) -> None:
        """Pictures by content, wherever they are, with their labels, and how they are changed."""
        digest.update(repr((self.task, self.labels, self.problem_type, self.augment, self.seed)).encode())
        labels = self.column("labels")
        for index, content in enumerate(self.digests):
            digest.update(content + f"{labels[index]!r} ".encode())


@dataclass(frozen=True, kw_only=True)
class PictureReport(Report):
    """What became of rows of pictures.

    Attributes:
        sizes: Width and height of each.
    """

    sizes: Sequence[tuple[int, int]] = ()

    def lines(self) -> list[str]:
        """The report in words."""
        ordered = sorted(self.sizes, key=lambda size: size[0] * size[1])
        small, large = ordered[0], ordered[-1]
        out = [
            f"{self.num_samples} pictures of {small[0]} × {small[1]} to {large[0]} × {large[1]} pixels"
            if small != large
            else f"{self.num_samples} pictures of {small[0]} × {small[1]} pixels"
        ]
        return [*out, *super().lines()[1:]]


def build_imgcls(
    rows: Rows,
    processor: ImageProcessor,
    *,
    image_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    problem_type: ProblemType | None = None,
    label_separator: str | None = None,
    check_pictures: bool = True,
    augment: AugmentConfig = PLAIN,
    seed: int = 0,
    known: dict[int, Look] | None = None,
) -> Built:
    """One sample a row of `load_pictures`; see `biject.data.features.build_dataset`.

    `known` keeps what was found of pictures, by their `id`, where some rows are built again.
    """
    column = find_image_column(rows, image_column)
    label_column = label_column if label_column else find_column(rows, None, _LABEL, "label_column")
    targets = read_targets(
        rows, label_column, names=labels, problem_type=problem_type, separator=label_separator
    )
    if augment.crop is not None and processor.steps.size is None:
        raise InputError(
            "augment.crop needs pictures of one size, and preprocessor_config.json gives none: set "
            "`crop_size` and `do_center_crop` there, or leave it out."
        )
    pictures = rows.each(rows.column(column), lambda row, value: _picture(rows, row, column, value))
    looks = _looked_at(rows, column, pictures, {} if known is None else known, whole=check_pictures)
    dataset = PictureDataset(
        pictures,
        targets.values,
        digests=[look.digest for look in looks],
        names=targets.names,
        problem_type=targets.problem_type,
        augment=augment,
        seed=seed,
    )
    report = PictureReport(
        num_rows=len(rows),
        num_samples=len(dataset),
        lengths=dataset.lengths,
        max_length=None,
        counts=targets.counts(),
        sizes=[look.size for look in looks],
    )
    return Built(dataset, dataset.labels, report)


def _picture(rows: Rows, row: int, column: str, value: object) -> Picture:
    if isinstance(value, STORED):
        return value
    raise rows.fault(row, column, f"expected a picture's path or bytes, found {shown(value)}.")


def _looked_at(
    rows: Rows, column: str, pictures: Sequence[Picture], known: dict[int, Look], *, whole: bool
) -> list[Look]:
    """Digest and size of each picture.

    Raises:
        InputError: One cannot be read; the message names its row and file.
    """

    def look(row: int, picture: Picture) -> Look:
        if row % 100 == 0:
            progress("read pictures", row, len(pictures), unit="pictures")
        if id(picture) not in known:
            try:
                known[id(picture)] = look_at(picture, whole=whole)
            except InputError as error:
                raise rows.fault(row, column, str(error)) from error
        return known[id(picture)]

    looks = rows.each(pictures, look)
    progress("read pictures", len(pictures), len(pictures), unit="pictures")
    return looks


def look_at(picture: Picture, *, whole: bool) -> Look:
    """Read a picture's file, and its pixels where `whole`.

    Raises:
        InputError: It cannot be read.
    """
    content = picture.read()
    if whole:
        size = open_picture(content, name=picture.place).size
    else:
        size = check_header(content, name=picture.place)
    return Look(hashlib.sha256(content).digest(), size)
