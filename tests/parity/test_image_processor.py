"""Image processors against transformers' Pillow ones, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import biject
from biject.pictures.processor import ImageProcessor
from biject.pictures.settings import preprocessing
from biject.verify.hf import quiet

SIZES = ((31, 47), (64, 64), (300, 200), (5, 260))
SETTINGS: dict[str, dict[str, Any]] = {
    "vit": {"image_processor_type": "ViTImageProcessor"},
    "vit-old": {"feature_extractor_type": "ViTFeatureExtractor", "size": 48, "resample": 2},
    "vit-fast": {"image_processor_type": "ViTImageProcessorFast", "size": {"height": 40, "width": 56}},
    "vit-plain": {"image_processor_type": "ViTImageProcessor", "do_normalize": False, "do_resize": False},
    "vit-integers": {"image_processor_type": "ViTImageProcessor", "do_rescale": False},
    "deit": {"image_processor_type": "DeiTImageProcessor"},
    "deit-old": {"feature_extractor_type": "DeiTFeatureExtractor", "size": 70, "crop_size": 64},
    "deit-padded": {"image_processor_type": "DeiTImageProcessor", "size": 31, "crop_size": 64},
    "bit": {"image_processor_type": "BitImageProcessor"},
    "dinov2": {
        "image_processor_type": "BitImageProcessor",
        "crop_size": {"height": 224, "width": 224},
        "size": {"shortest_edge": 256},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
    },
    "bit-not-cropped": {"image_processor_type": "BitImageProcessor", "do_center_crop": False, "size": 37},
    **{
        f"filter-{number}": {"image_processor_type": "ViTImageProcessor", "size": 33, "resample": number}
        for number in range(6)
    },
}


def theirs(values: dict[str, Any]) -> Any:
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
    from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    kinds = {"V": ViTImageProcessorPil, "D": DeiTImageProcessorPil, "B": BitImageProcessorPil}
    name = values.get("image_processor_type") or values["feature_extractor_type"]
    rest = {key: value for key, value in values.items() if not key.endswith("_type")}
    return kinds[name[0]](**rest)


def picture(size: tuple[int, int], mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Waves with noise: filters differ on it."""
    draw = np.random.default_rng(seed)
    lines, columns = np.mgrid[0 : size[0], 0 : size[1]]
    bands = np.cos(columns[..., None] / np.array([3.0, 7.0, 11.0]))
    wave = 127 * (1 + np.sin(lines / 5)[..., None] * bands)
    noisy = np.clip(wave + draw.normal(0, 20, (*size, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(noisy).convert(mode)


@pytest.mark.parametrize("name", SETTINGS)
def test_bits_of_hf(name: str) -> None:
    ours = ImageProcessor(preprocessing(SETTINGS[name]))
    with quiet():
        other = theirs(SETTINGS[name])
        for size in SIZES:
            one = picture(size)
            expected = torch.as_tensor(np.asarray(other(one)["pixel_values"][0]))
            found = ours(one).pixel_values[0]
            assert found.dtype == expected.dtype or name == "vit-plain"
            assert torch.equal(found, expected), size


def test_several_at_once_and_arrays() -> None:
    ours = ImageProcessor(preprocessing(SETTINGS["vit"]))
    many = [picture(size) for size in SIZES]
    together = ours(many).pixel_values
    assert together.shape == (4, 3, 224, 224)
    arrays = [np.array(one) for one in many]
    assert torch.equal(ours(arrays).pixel_values, together)
    first = [np.moveaxis(one, -1, 0) for one in arrays]
    assert torch.equal(ours(first[:3]).pixel_values, together[:3])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "CMYK"])
def test_other_modes_are_hf_s_converted(mode: str) -> None:
    """Where HF is told to convert; elsewhere it fails on them, and ours converts all the same."""
    values = SETTINGS["dinov2"]
    one = picture((50, 60), "RGB").convert("L").convert("LA") if mode == "LA" else picture((50, 60), mode)
    if mode in ("RGBA", "LA"):
        one.putalpha(Image.fromarray((np.arange(3000) % 256).astype(np.uint8).reshape(50, 60)))
    with quiet():
        expected = torch.as_tensor(np.asarray(theirs(values)(one)["pixel_values"][0]))
    assert torch.equal(ImageProcessor(preprocessing(values))(one).pixel_values[0], expected)
    assert ImageProcessor(preprocessing(SETTINGS["vit"]))(one).pixel_values.shape == (1, 3, 224, 224)


@pytest.mark.parametrize("turned", range(1, 9))
def test_files_are_turned_by_exif_as_hf_loads_them(turned: int, tmp_path: Path) -> None:
    from transformers.image_utils import load_image

    exif = Image.Exif()
    exif[274] = turned
    picture((30, 50)).save(tmp_path / "one.jpg", exif=exif)
    ours = ImageProcessor(preprocessing(SETTINGS["vit"]))
    with quiet():
        expected = theirs(SETTINGS["vit"])(load_image(str(tmp_path / "one.jpg")))["pixel_values"][0]
    for given in (tmp_path / "one.jpg", str(tmp_path / "one.jpg"), (tmp_path / "one.jpg").read_bytes()):
        assert torch.equal(ours(given).pixel_values[0], torch.as_tensor(np.asarray(expected)))


def test_of_a_checkpoint(tmp_path: Path) -> None:
    from biject.verify.reference import make_reference

    folder = make_reference("vit", "imgcls", tmp_path / "vit")
    processor = biject.AutoImageProcessor.from_pretrained(folder)
    model = biject.AutoModelForImageClassification.from_pretrained(folder)
    assert model(**processor([picture((31, 47)), picture((64, 64))])).logits.shape == (2, 2)
    model.save_pretrained(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())["size"]["height"] == 20
