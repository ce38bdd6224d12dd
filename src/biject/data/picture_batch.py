"""`PictureCollator`: samples of pictures to a batch, read from their files now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from biject.config.augment import PLAIN, AugmentConfig
from biject.data.imgcls import DRAW, PICTURE
from biject.data.stored import Picture
from biject.errors import InputError
from biject.pictures.augment import Array, augmented
from biject.pictures.files import open_picture
from biject.pictures.processor import ImageProcessor


@dataclass(frozen=True, kw_only=True)
class PictureCollator:
    """Makes `pixel_values` (B, C, H, W) and `labels` of samples.

    Attributes:
        processor: Of the model.
        channels: That the model reads: three of colour, or one of grey.
        augment: How samples that bring a `draw` are changed.
    """

    processor: ImageProcessor
    channels: int = 3
    augment: AugmentConfig = PLAIN

    def __post_init__(self) -> None:
        """Raise `InputError` for channels that no picture has."""
        if self.channels not in (1, 3):
            raise InputError(
                f"Pictures have 3 channels of colour or 1 of grey; this model reads {self.channels}."
            )

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch.

        Raises:
            InputError: A picture cannot be read, or they do not come out equally large.
        """
        if not samples:
            raise InputError("A batch needs samples, found none.")
        arrays = [self._pixels(sample) for sample in samples]
        sizes = sorted({array.shape[1:] for array in arrays})
        if len(sizes) > 1:
            raise InputError(
                f"Pictures of a batch come out in {len(sizes)} sizes, {sizes[:3]}, height and width: set "
                "`crop_size` and `do_center_crop` in preprocessor_config.json, or use batches of 1."
            )
        batch = {"pixel_values": torch.from_numpy(np.stack(arrays))}
        if "labels" in samples[0]:
            labels = torch.tensor([sample["labels"] for sample in samples])
            batch["labels"] = labels.to(torch.float32 if labels.is_floating_point() else torch.long)
        return batch

    def _pixels(self, sample: Mapping[str, Any]) -> Array:
        array = self.array(sample[PICTURE])
        draw = sample.get(DRAW)
        if draw is None:
            return self.processor.pixels(array)
        return augmented(array, self.processor, self.augment, draw)

    def array(self, picture: Picture) -> Array:
        """A picture's pixels as they are stored, (C, H, W), uint8."""
        mode: Literal["RGB", "L"] = "RGB" if self.channels == 3 else "L"
        found = np.array(open_picture(picture.read(), mode=mode, name=picture.place))
        return found[None] if found.ndim == 2 else np.moveaxis(found, -1, 0)
