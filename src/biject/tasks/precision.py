"""Vectors in fewer bits, for search in less memory.

Source: sentence-transformers 6.2, util/quantization.py (quantize_embeddings).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from biject.events import notice
from biject.tasks.inputs import require

Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]
_ENOUGH = 100
"""Fewer vectors say little about the ranges of their values."""


def quantize_embeddings(
    embeddings: Tensor | npt.NDArray[Any] | Sequence[Tensor | npt.NDArray[Any]],
    precision: Precision,
    ranges: npt.NDArray[Any] | None = None,
    calibration_embeddings: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """Round vectors, (N, D), with sentence-transformers' codes.

    Args:
        embeddings: Of floats.
        precision: `int8` and `uint8` give 256 steps between each value's least and most, (N, D); `binary` and
            `ubinary` its sign, eight a byte, (N, D / 8).
        ranges: For `int8` and `uint8`: the least and the most of each value, (2, D).
        calibration_embeddings: Vectors that these are taken from; left out, those that are rounded.

    Returns:
        int8 for `int8` and `binary`, uint8 for the others.

    Raises:
        InputError: No such precision; vectors that are rounded already; ranges out of a single vector.
    """
    require(
        precision in get_args(Precision),
        f"`precision` is one of {', '.join(get_args(Precision))}; found {precision!r}.",
    )
    values = _array(embeddings)
    require(
        values.dtype.kind == "f", f"Vectors to be rounded should be of floats; these are of {values.dtype}."
    )
    if precision == "float32":
        return values.astype(np.float32)
    if precision in ("binary", "ubinary"):
        bits: npt.NDArray[np.uint8] = np.packbits(values > 0, axis=-1)
        return bits if precision == "ubinary" else (bits - np.uint8(128)).view(np.int8)
    if not len(values):
        return values.astype(precision)
    if ranges is None:
        ranges = _ranges(values, precision, calibration_embeddings)
    least, most = np.asarray(ranges).astype(np.float32)
    steps = (most - least) / 255
    steps = np.where(steps == 0, 1, steps)
    codes: npt.NDArray[Any] = np.clip(np.floor((values - least) / steps), 0, 255)
    return codes.astype(np.uint8) if precision == "uint8" else (codes - 128).astype(np.int8)


def _ranges(
    values: npt.NDArray[Any], precision: str, calibration: npt.NDArray[Any] | None
) -> npt.NDArray[Any]:
    if calibration is None:
        require(
            values.ndim == 2 and len(values) > 1,
            f"One vector does not say between what its values lie: for {precision!r} give several, or round "
            "with `quantize_embeddings(…, ranges=…)` or `calibration_embeddings=…`.",
        )
        if len(values) < _ENOUGH:
            notice(
                "few-vectors",
                f"{precision} takes the ranges of values out of {len(values)} vectors; of more, or with "
                "`calibration_embeddings`, codes of different calls are alike.",
            )
        calibration = values
    return np.stack((calibration.min(axis=0), calibration.max(axis=0)))


def _array(given: Any) -> npt.NDArray[Any]:
    if isinstance(given, Sequence) and given and isinstance(given[0], Tensor):
        given = torch.stack(list(given))
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        given = given.float() if given.dtype is torch.bfloat16 else given
        return np.asarray(given.numpy())
    return np.asarray(given)
