"""Random crops and mirror images: torchvision's rule, numbers of our own."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from biject.config.augment import AugmentConfig
from biject.data.picture_batch import PictureCollator
from biject.errors import InputError
from biject.pictures.augment import Draw, augmented, crop_box
from biject.pictures.processor import ImageProcessor
from biject.pictures.settings import preprocessing

CROP = AugmentConfig(crop=(0.2, 0.6), flip=0.5)


@pytest.fixture
def processor() -> ImageProcessor:
    return ImageProcessor(preprocessing({"size": {"height": 16, "width": 12}}))


def picture(height: int = 30, width: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, height, width)).astype(np.uint8)


def test_crops_have_the_area_and_shape_that_was_asked_for() -> None:
    boxes = [crop_box(300, 400, CROP, random.Random(seed)) for seed in range(500)]
    assert CROP.crop is not None
    for top, left, height, width in boxes:
        assert 0 <= top <= 300 - height
        assert 0 <= left <= 400 - width
        assert CROP.crop[0] * 0.97 <= height * width / 120_000 <= CROP.crop[1] * 1.03
        assert CROP.ratio[0] * 0.97 <= width / height <= CROP.ratio[1] * 1.03
    shares = [height * width / 120_000 for _, _, height, width in boxes]
    assert abs(sum(shares) / len(shares) - 0.4) < 0.02  # uniform in the area
    assert abs(sum(math.log(width / height) for *_, height, width in boxes) / len(boxes)) < 0.03


@pytest.mark.parametrize(
    ("height", "width", "want"), [(1, 1000, (0, 499, 1, 1)), (1000, 10, (493, 0, 13, 10))]
)
def test_where_no_crop_fits_the_middle_is_taken(
    height: int, width: int, want: tuple[int, int, int, int]
) -> None:
    whole = AugmentConfig(crop=(1.0, 1.0))
    assert crop_box(height, width, whole, random.Random(0)) == want


def test_the_same_draw_gives_the_same_pixels_and_others_differ(processor: ImageProcessor) -> None:
    draws = [Draw(0, 0, 0), Draw(0, 0, 1), Draw(0, 1, 0), Draw(1, 0, 0)]
    made = [augmented(picture(), processor, CROP, draw) for draw in draws]
    again = [augmented(picture(), processor, CROP, draw) for draw in draws]
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))
    assert len({array.tobytes() for array in made}) == len(draws)
    assert all(array.shape == (3, 16, 12) and array.dtype == np.float32 for array in made)


def test_numbers_are_the_same_on_every_machine() -> None:
    assert Draw(3, 2, 1).rng().random() == random.Random("biject augment 3 2 1").random()
    assert [round(Draw(0, 0, i).rng().random(), 6) for i in range(3)] == NUMBERS


NUMBERS = [0.450357, 0.578609, 0.23363]


def test_mirror_images_alone(processor: ImageProcessor) -> None:
    plain = processor.pixels(picture())
    always = AugmentConfig(flip=1.0)
    assert np.array_equal(augmented(picture(), processor, always, Draw(0, 0, 0)), plain[:, :, ::-1])
    some = [augmented(picture(), processor, AugmentConfig(flip=0.5), Draw(0, 0, i)) for i in range(200)]
    turned = sum(np.array_equal(one, plain[:, :, ::-1]) for one in some)
    assert 70 < turned < 130
    assert turned + sum(np.array_equal(one, plain) for one in some) == 200


def test_models_of_two_channels(processor: ImageProcessor) -> None:
    with pytest.raises(InputError, match="3 channels of colour or 1 of grey"):
        PictureCollator(processor=processor, channels=2)
