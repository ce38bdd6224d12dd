"""Small copies of pictures, for pages that stand alone."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biject.pictures.files import pillow

SIDE = 96
_SMALLEST = 48
_QUALITY = 70


def thumbnail(array: NDArray[Any]) -> str:
    """A uint8 picture (C, H, W) as the text of a `data:` address: JPEG, or PNG where it is tiny.

    Nothing of the file is in it (no EXIF), and its longer edge has at most `SIDE` pixels.
    """
    plain = array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
    pixels = pillow()
    image = pixels.fromarray(np.ascontiguousarray(plain))
    tiny = max(image.size) <= _SMALLEST
    if not tiny:
        image.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    if tiny:
        image.save(stream, format="PNG")
    else:
        image.save(stream, format="JPEG", quality=_QUALITY)
    kind = "png" if tiny else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
