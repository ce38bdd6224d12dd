"""`ImageProcessor`: pictures to `pixel_values`, as transformers' Pillow processors compute them.

Source: transformers 5.23, image_processing_backends.py (PilBackend), image_transforms.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biject.errors import InputError
from biject.pictures.files import MAX_PIXELS, open_picture, pillow
from biject.pictures.settings import Preprocessing

Array = NDArray[Any]


class Pixels(dict[str, Tensor]):
    """A call's arguments, `model(**pixels)`."""

    @property
    def pixel_values(self) -> Tensor:
        """(B, C, H, W), float32."""
        return self["pixel_values"]


class ImageProcessor:
    """Resizes, crops, scales and normalises; see `Preprocessing` for the steps.

    Attributes:
        steps: what is done.
    """

    model_input_names = ("pixel_values",)

    def __init__(self, steps: Preprocessing) -> None:
        self.steps = steps

    def __call__(self, images: Any, return_tensors: str | None = "pt") -> Pixels:
        """One picture or several: paths, files' bytes, Pillow images, or uint8 arrays (H, W, C) or (C, H, W).

        Raises:
            InputError: a picture cannot be read, or they do not come out equally large.
        """
        if return_tensors not in (None, "pt"):
            raise InputError(
                f"return_tensors: expected 'pt', found {return_tensors!r}; tensors come in any case."
            )
        several = isinstance(images, Sequence) and not isinstance(images, str | bytes)
        found = [self.pixels(self._array(one)) for one in (images if several else [images])]
        sizes = {array.shape for array in found}
        if len(sizes) != 1:
            raise InputError(
                f"Pictures come out in {len(sizes)} sizes, {sorted(sizes)[:4]}: pass equal ones."
            )
        return Pixels(pixel_values=torch.from_numpy(np.stack(found)))

    def pixels(self, array: Array) -> Array:
        """All steps on a uint8 picture (C, H, W)."""
        return self.scaled(self.cut(array))

    def cut(self, array: Array) -> Array:
        """Resized and cropped, still uint8."""
        steps = self.steps
        if steps.resize is not None:
            array = self.resized(array, steps.resize)
        return array if steps.crop is None else _cropped(array, *steps.crop)

    def scaled(self, array: Array) -> Array:
        """Rescaled in float64, then float32, then normalised."""
        steps = self.steps
        if steps.rescale is not None:
            array = (array.astype(np.float64) * steps.rescale).astype(np.float32)
        if steps.mean is not None and steps.std is not None:
            array = array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float32)
            mean, std = (_per_channel(one, array) for one in (steps.mean, steps.std))
            array = ((array.T - mean) / std).T
        return np.ascontiguousarray(array)

    def _array(self, image: Any) -> Array:
        """(C, H, W), uint8; in RGB where the model normalises three channels."""
        if isinstance(image, str | Path | bytes):
            image = open_picture(image)
        if isinstance(image, Tensor):
            image = image.numpy()
        if isinstance(image, np.ndarray):
            return _channels_first(image)
        pixels = pillow()
        if not isinstance(image, pixels.Image):
            raise InputError(
                f"A picture is a path, bytes, a Pillow image or an array; found {type(image).__name__}."
            )
        channels = len(self.steps.mean) if self.steps.mean is not None else 3
        if self.steps.convert_rgb or (channels == 3 and image.mode != "RGB"):
            image = _as_rgb(image)
        array = np.array(image)
        if array.dtype != np.uint8:
            raise InputError(
                f"A picture of mode {image.mode}: expected 8 bits a channel, found {array.dtype}."
            )
        return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)

    def resized(self, array: Array, size: tuple[int, int] | int) -> Array:
        """To height and width, or the shorter edge to a length, by the model's filter."""
        channels, height, width = array.shape
        if isinstance(size, int):
            short, long = sorted((height, width))
            edges = size, int(size * long / short)
            size = (edges[1], edges[0]) if width <= height else edges
        if size[0] * size[1] > MAX_PIXELS:
            raise InputError(f"A picture of {height} × {width} would be resized to {size[0]} × {size[1]}.")
        last = array[0] if channels == 1 else np.moveaxis(array, 0, -1)
        image = pillow().fromarray(np.ascontiguousarray(last))
        made = np.array(image.resize((size[1], size[0]), resample=self.steps.resample))
        return made[None] if made.ndim == 2 else np.moveaxis(made, -1, 0)


def _as_rgb(image: Any) -> Any:
    """RGB; what is transparent over white, as HF's `convert_to_rgb`.

    Raises:
        InputError: more than 8 bits a channel.
    """
    if image.mode.startswith("I") or image.mode == "F":
        raise InputError(
            f"A picture of mode {image.mode} has more than 8 bits a channel: convert it to 8 bits."
        )
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        white = pillow().new("RGBA", image.size, (255, 255, 255, 255))
        return pillow().alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _channels_first(array: Array) -> Array:
    """As HF infers it: channels come first where the first axis may be channels."""
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
        raise InputError(
            "An array of a picture is uint8, (H, W, C), (C, H, W) or (H, W); found "
            f"{array.dtype} {array.shape}."
        )
    if array.ndim == 2:
        return array[None]
    if array.shape[0] in (1, 3, 4):
        return array
    if array.shape[-1] in (1, 3, 4):
        return np.moveaxis(array, -1, 0)
    raise InputError(f"No axis of {array.shape} is 1, 3 or 4 channels.")


def _per_channel(values: tuple[float, ...], array: Array) -> Array:
    channels = array.shape[0]
    if len(values) not in (1, channels):
        raise InputError(
            f"A picture has {channels} channels; preprocessor_config.json normalises {len(values)}."
        )
    return np.array(values * channels if len(values) == 1 else values, dtype=array.dtype)


def _cropped(array: Array, height: int, width: int) -> Array:
    """The middle, with zeros around where the picture is too small (image_transforms.py, center_crop)."""
    down, across = array.shape[-2:]
    top, left = (down - height) // 2, (across - width) // 2
    if top >= 0 and left >= 0:
        return array[..., top : top + height, left : left + width]
    tall, wide = max(height, down), max(width, across)
    padded = np.zeros_like(array, shape=(*array.shape[:-2], tall, wide))
    above, before = math.ceil((tall - down) / 2), math.ceil((wide - across) / 2)
    padded[..., above : above + down, before : before + across] = array
    top, left = top + above, left + before
    return padded[..., max(0, top) : min(tall, top + height), max(0, left) : min(wide, left + width)]
