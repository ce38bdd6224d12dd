"""`preprocessor_config.json`: how pictures become a model's input, read and checked.

Source: transformers 5.23, image_processing_pil_vit.py, image_processing_pil_deit.py,
image_processing_pil_bit.py, image_processing_utils.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from biject.checkpoint.strict_json import parse_object, read_small_file
from biject.errors import ConfigError, shown

PREPROCESSOR = "preprocessor_config.json"
_MAX_SIDE = 2**13
_STANDARD, _CLIP = (0.5, 0.5, 0.5), (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_SQUARE = {"height": 224, "width": 224}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "ViT": {"resample": 2, "size": _SQUARE, "image_mean": _STANDARD, "image_std": _STANDARD},
    "DeiT": {
        "resample": 3,
        "size": {"height": 256, "width": 256},
        "do_center_crop": True,
        "crop_size": _SQUARE,
        "image_mean": _STANDARD,
        "image_std": _STANDARD,
    },
    "Bit": {
        "resample": 3,
        "size": {"shortest_edge": 224},
        "default_to_square": False,
        "do_center_crop": True,
        "crop_size": _SQUARE,
        "image_mean": _CLIP,
        "image_std": _CLIP_STD,
        "do_convert_rgb": True,
    },
}
"""HF's class attributes by the kind of processor."""
_BY_FAMILY = {"vit": "ViT", "deit": "DeiT", "dinov2": "Bit", "dinov2_with_registers": "Bit"}
_FLAGS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The steps, in this order; what is None is left out."""

    kind: Literal["ViT", "DeiT", "Bit"]
    resize: tuple[int, int] | int | None
    """Height and width, or the shorter edge."""
    resample: int
    """Pillow's number of the filter."""
    crop: tuple[int, int] | None
    """Height and width of the middle."""
    rescale: float | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    convert_rgb: bool

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of what comes out, where they do not depend on the picture."""
        return self.crop or (self.resize if isinstance(self.resize, tuple) else None)


def read_preprocessing(folder: Path, model_type: object = None) -> Preprocessing:
    """What a folder's file says.

    Args:
        folder: a checkpoint's.
        model_type: decides where the file names no processor.

    Raises:
        ConfigError: there is no such file, or it says something that is not computed.
    """
    path = folder / PREPROCESSOR
    if not path.is_file():
        raise ConfigError(
            f"{folder}: there is no {PREPROCESSOR}, which says how pictures become the model's input. "
            "Copy it from the checkpoint that was fine-tuned."
        )
    values = parse_object(read_small_file(path, what=str(path)), where=str(path))
    return preprocessing(values, str(path), model_type)


def preprocessing(
    values: Mapping[str, Any], where: str = PREPROCESSOR, model_type: object = None
) -> Preprocessing:
    """The same from the file's values."""
    kind = _kind(values, where, model_type)
    defaults = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
    held = {**defaults, **_DEFAULTS[kind], **{name: one for name, one in values.items() if one is not None}}
    for name in _FLAGS:
        if not isinstance(held.get(name, False), bool):
            raise _wrong(where, name, "true or false", held[name])
    if held.get("do_pad"):
        raise _wrong(where, "do_pad", "false: padded pictures are not computed", held["do_pad"])
    resample = held["resample"]
    if type(resample) is not int or not 0 <= resample <= 5:
        raise _wrong(where, "resample", "a number from 0 to 5, as Pillow counts filters", resample)
    square = held.get("default_to_square", True)
    size = _size(held["size"], where, "size", square=square is not False)
    crop = (
        _size(held.get("crop_size"), where, "crop_size", square=True) if held.get("do_center_crop") else None
    )
    return Preprocessing(
        kind=kind,
        resize=size if held["do_resize"] else None,
        resample=resample,
        crop=crop if isinstance(crop, tuple) else None,
        rescale=_numbers(held["rescale_factor"], where, "rescale_factor")[0] if held["do_rescale"] else None,
        mean=_numbers(held["image_mean"], where, "image_mean") if held["do_normalize"] else None,
        std=_numbers(held["image_std"], where, "image_std", zero=False) if held["do_normalize"] else None,
        convert_rgb=bool(held.get("do_convert_rgb")),
    )


def _kind(values: Mapping[str, Any], where: str, model_type: object) -> Literal["ViT", "DeiT", "Bit"]:
    named = values.get("image_processor_type") or values.get("feature_extractor_type")
    if named is None:
        named = _BY_FAMILY.get(str(model_type), "ViT")
    stem = str(named)
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        stem = stem.removesuffix(ending)
    for kind in ("ViT", "DeiT", "Bit"):
        if stem == kind:
            return kind
    raise _wrong(where, "image_processor_type", "ViT-, DeiT- or BitImageProcessor", named)


def _size(value: Any, where: str, name: str, *, square: bool) -> tuple[int, int] | int:
    """(height, width), or the shorter edge; HF's readings of a number and a pair."""
    found: list[Any] = []
    if isinstance(value, Mapping) and set(value) == {"height", "width"}:
        found = [value["height"], value["width"]]
    elif isinstance(value, Mapping) and set(value) == {"shortest_edge"}:
        found, square = [value["shortest_edge"]], False
    elif isinstance(value, int):
        found = [value, value] if square else [value]
    elif isinstance(value, list | tuple) and len(value) == 2:
        found = list(value)
    if not found or any(type(one) is not int or not 1 <= one <= _MAX_SIDE for one in found):
        raise _wrong(where, name, f"height and width, or shortest_edge, from 1 to {_MAX_SIDE}", value)
    return (found[0], found[1]) if len(found) == 2 else int(found[0])


def _numbers(value: Any, where: str, name: str, *, zero: bool = True) -> tuple[float, ...]:
    listed = value if isinstance(value, list | tuple) else [value]
    good = 1 <= len(listed) <= 4 and all(
        isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in listed
    )
    if not good or (not zero and any(one == 0 for one in listed)):
        raise _wrong(where, name, "one to four finite numbers" + ("" if zero else ", none of them 0"), value)
    return tuple(float(one) for one in listed)


def _wrong(where: str, name: str, expected: str, found: object) -> ConfigError:
    return ConfigError(f"{where}: `{name}` should be {expected}, found {shown(found)}.")
