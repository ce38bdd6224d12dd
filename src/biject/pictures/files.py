"""Open picture files that nobody vouches for: few formats, bounded sizes, one clear error."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from biject.errors import InputError, MissingExtraError, shown

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""No format whose reader starts other programs (EPS) or fetches files."""
MAX_PIXELS = 2**26
"""256 MiB in memory at 4 bytes a pixel; larger pictures are refused by their header."""
_EIGHT_BITS = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"))


SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
"""Names that files of these formats have."""


def open_picture(
    source: str | Path | bytes, *, mode: Literal["RGB", "L"] = "RGB", name: str | None = None
) -> Image:
    """A file, or its bytes, as a picture, turned as its EXIF says; of an animation, the first picture.

    Source: transformers 5.23, image_utils.py (load_image).

    Args:
        source: Where it is.
        mode: Three channels, or one of grey.
        name: What messages call it.

    Raises:
        InputError: it is no picture of a known format, damaged, too large, or has more than 8 bits a channel.
        MissingExtraError: Pillow is not installed.
    """
    image_module = pillow()
    from PIL import ImageOps

    where = name or ("the picture's bytes" if isinstance(source, bytes) else str(source))
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise InputError(f"{where}: there is no such file.")
    stream = io.BytesIO(source) if isinstance(source, bytes) else Path(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with image_module.open(stream, formats=FORMATS) as found:
                _check(found, where)
                turned = ImageOps.exif_transpose(found)
                made: Image = turned.convert(mode)
                return made
    except InputError:
        raise
    except image_module.UnidentifiedImageError as error:
        raise InputError(f"{where}: no picture of a known format ({', '.join(FORMATS)}).") from error
    except Exception as error:  # Pillow's readers raise what they like on damaged files
        text = shown(str(error))
        raise InputError(f"{where}: the picture cannot be read: {type(error).__name__} {text}.") from error


def check_header(source: Path | bytes, *, name: str) -> tuple[int, int]:
    """Width and height by a picture's header; its pixels are not read.

    Raises:
        InputError: As in `open_picture`, but for damage behind the header.
    """
    image_module = pillow()
    if isinstance(source, Path) and not source.is_file():
        raise InputError(f"{name}: there is no such file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stream = io.BytesIO(source) if isinstance(source, bytes) else source
            with image_module.open(stream, formats=FORMATS) as found:
                _check(found, name)
                size: tuple[int, int] = found.size
                return size
    except InputError:
        raise
    except Exception as error:  # as in `open_picture`
        text = shown(str(error))
        raise InputError(f"{name}: the picture cannot be read: {type(error).__name__} {text}.") from error


def _check(found: Image, where: str) -> None:
    width, height = found.size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{where}: {width} × {height} pixels, at most {MAX_PIXELS:,} are read. Make the picture smaller."
        )
    if found.mode not in _EIGHT_BITS:
        raise InputError(
            f"{where}: mode {shown(found.mode)}, more than 8 bits a channel, which cannot be brought to RGB "
            "without a choice of range. Convert the picture to 8 bits."
        )


def pillow() -> Any:
    """Pillow's module of images.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("Pictures need Pillow: pip install 'biject[vision]'.") from error
    return Image
