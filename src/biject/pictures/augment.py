"""Random crops and mirror images to train on: what is drawn depends on seed, epoch and sample alone.

Source: torchvision 0.28, transforms/v2/_geometry.py (RandomResizedCrop, RandomHorizontalFlip), with random
numbers of our own, so that a run that goes on, or has more processes, sees the same pictures.
"""

from __future__ import annotations

import math
import random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from biject.config.augment import AugmentConfig
from biject.pictures.processor import ImageProcessor

Array = NDArray[Any]
_TRIES = 10


class Draw(NamedTuple):
    """What one picture's changes are drawn by."""

    seed: int
    epoch: int
    sample: int

    def rng(self) -> random.Random:
        """Random numbers that are the same on every machine."""
        return random.Random(f"biject augment {self.seed} {self.epoch} {self.sample}")


def augmented(array: Array, processor: ImageProcessor, config: AugmentConfig, draw: Draw) -> Array:
    """A uint8 picture (C, H, W) as the model's input, changed at random."""
    rng = draw.rng()
    size = processor.steps.size
    if config.crop is not None and size is not None:
        top, left, height, width = crop_box(array.shape[1], array.shape[2], config, rng)
        array = processor.resized(array[:, top : top + height, left : left + width], size)
    else:
        array = processor.cut(array)
    if rng.random() < config.flip:
        array = np.ascontiguousarray(array[:, :, ::-1])
    return processor.scaled(array)


def crop_box(height: int, width: int, config: AugmentConfig, rng: random.Random) -> tuple[int, int, int, int]:
    """Top, left, height and width of what is cut out."""
    assert config.crop is not None
    low, high = (math.log(ratio) for ratio in config.ratio)
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*config.crop)
        ratio = math.exp(rng.uniform(low, high))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            return rng.randint(0, height - tall), rng.randint(0, width - wide), tall, wide
    ratio = min(max(width / height, config.ratio[0]), config.ratio[1])  # the largest that fits, in the middle
    wide = min(width, max(1, round(height * ratio)))
    tall = min(height, max(1, round(width / ratio)))
    return (height - tall) // 2, (width - wide) // 2, tall, wide
