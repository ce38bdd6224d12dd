"""Picture files and settings that nobody vouches for: one clear error each."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from biject.errors import ConfigError, InputError
from biject.pictures.files import MAX_PIXELS, open_picture
from biject.pictures.processor import ImageProcessor
from biject.pictures.settings import preprocessing, read_preprocessing


def data(kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(
        (np.arange(size[0] * size[1] * 3) % 251).astype(np.uint8).reshape(size[1], size[0], 3)
    ).convert(mode).save(stream, kind)
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be large."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_known_formats(kind: str) -> None:
    found = open_picture(data(kind))
    assert (found.mode, found.size) == ("RGB", (40, 30))


@pytest.mark.parametrize("size", [(50_000, 50_000), (MAX_PIXELS + 1, 1), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_by_their_header(size: tuple[int, int]) -> None:
    with pytest.raises(InputError):
        open_picture(bomb(*size))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF"])
def test_cut_files(kind: str, tmp_path: Path) -> None:
    whole = data(kind, size=(200, 150))
    path = tmp_path / "cut"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cut"):
        open_picture(path)


def test_postscript_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) print\n")
    with pytest.raises(InputError, match="no picture of a known format"):
        open_picture(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a"])
def test_no_pictures(content: bytes) -> None:
    with pytest.raises(InputError):
        open_picture(content)


def test_sixteen_bits_are_refused_not_clipped(tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16))
    deep.save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="8 bits"):
        open_picture(tmp_path / "deep.png")
    with pytest.raises(InputError, match="8 bits"):
        ImageProcessor(preprocessing({"image_processor_type": "ViTImageProcessor"}))(deep)


def test_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(InputError, match="no such file"):
            open_picture(path)


BAD: list[dict[str, Any]] = [
    {"size": 10**9},
    {"size": {"height": 0, "width": 5}},
    {"size": {"height": True, "width": 5}},
    {"size": {"longest_edge": 5}},
    {"size": "224"},
    {"resample": 9},
    {"resample": "bilinear"},
    {"image_std": [0, 1, 1]},
    {"image_mean": [float("nan")] * 3},
    {"image_mean": []},
    {"image_mean": "0.5"},
    {"rescale_factor": float("inf")},
    {"do_resize": "yes"},
    {"do_pad": True},
    {"image_processor_type": "CLIPImageProcessor"},
    {"image_processor_type": ["ViTImageProcessor"]},
]


@pytest.mark.parametrize("values", BAD, ids=str)
def test_settings_that_are_not_computed(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        preprocessing({"image_processor_type": "ViTImageProcessor", **values})


def test_a_folder_without_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="preprocessor_config"):
        read_preprocessing(tmp_path)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3)), np.zeros((7, 7, 7), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_arrays_that_are_no_pictures(array: Any) -> None:
    with pytest.raises(InputError):
        ImageProcessor(preprocessing({"image_processor_type": "ViTImageProcessor"}))(array)
    with pytest.raises(InputError, match="path, bytes"):
        ImageProcessor(preprocessing({"image_processor_type": "ViTImageProcessor"}))(3)


def test_a_thin_picture_is_not_blown_up() -> None:
    processor = ImageProcessor(preprocessing({"image_processor_type": "BitImageProcessor"}))
    with pytest.raises(InputError, match="resized"):
        processor(np.zeros((1, 400_000, 3), np.uint8))


def modes() -> dict[str, bytes]:
    """Files that are no plain RGB."""
    made: dict[str, bytes] = {}
    base = Image.fromarray((np.arange(40 * 30 * 3) % 251).astype(np.uint8).reshape(30, 40, 3))
    stream = io.BytesIO()
    base.convert("P").save(stream, "PNG")
    made["palette"] = stream.getvalue()
    stream = io.BytesIO()
    base.convert("P").save(stream, "PNG", transparency=3)
    made["palette with transparency"] = stream.getvalue()
    stream = io.BytesIO()
    base.convert("RGBA").save(stream, "PNG")
    made["alpha"] = stream.getvalue()
    stream = io.BytesIO()
    base.convert("CMYK").save(stream, "JPEG")
    made["CMYK"] = stream.getvalue()
    stream = io.BytesIO()
    base.convert("1").save(stream, "PNG")
    made["one bit"] = stream.getvalue()
    for turn in (2, 3, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = turn
        stream = io.BytesIO()
        base.save(stream, "JPEG", exif=exif)
        made[f"turned {turn}"] = stream.getvalue()
    for kind in ("GIF", "WEBP", "PNG"):
        stream = io.BytesIO()
        base.save(stream, kind, save_all=True, append_images=[base.rotate(90), base.rotate(180)])
        made[f"animated {kind}"] = stream.getvalue()
    return made


@pytest.mark.parametrize("name", modes())
def test_other_modes_are_opened_as_transformers_does(name: str, tmp_path: Path) -> None:
    """Palettes, transparency, CMYK, EXIF's turns, animations."""
    from transformers.image_utils import load_image

    path = tmp_path / "picture"
    path.write_bytes(modes()[name])
    ours, theirs = open_picture(path), load_image(str(path))
    assert ours.size == theirs.size
    assert np.array_equal(np.array(ours), np.array(theirs))
