"""Classify pictures: labels as HF's pipeline gives them.

Source: transformers 5.23, pipelines/image_classification.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from biject.data.stored import STORED
from biject.errors import InputError
from biject.events import progress
from biject.model import Model
from biject.pictures.files import open_picture
from biject.pictures.processor import ImageProcessor
from biject.tasks.classify import Function, ranked, usual_function
from biject.tasks.common import BATCH_SIZE, Task
from biject.tasks.inputs import require
from biject.tasks.numbers import to_numpy

HEADS = ("imgcls", "distilled")


class ClassifyPictures(Task):
    """Gives labels to pictures."""

    name: ClassVar[str] = "classify-pictures"
    head: ClassVar[str] = "imgcls"
    takes: ClassVar[tuple[str, ...]] = ("top_k", "function_to_apply")

    def __init__(self, model: Model, processor: ImageProcessor, *, batch_size: int = BATCH_SIZE) -> None:
        require(batch_size >= 1, f"`batch_size` must be at least 1; found {batch_size}.")
        if model.head_name not in HEADS:
            raise InputError(
                f"{self.name} needs a model with the head `{HEADS[0]}` or `{HEADS[1]}`; this one has "
                f"`{model.head_name}`."
            )
        self.model, self.processor, self.batch_size = model, processor, batch_size

    def __call__(
        self, inputs: Any, *, top_k: int | None = 5, function_to_apply: Function | None = None
    ) -> list[Any]:
        """Classify one picture, or several.

        Args:
            inputs: paths, files' bytes, what `load_pictures` finds, Pillow images, or uint8 arrays (H, W, C)
                or (C, H, W).
            top_k: how many labels to give; None for all.
            function_to_apply: what makes scores of logits. By default none for regression, sigmoid for
                several labels at once or for a single one, else softmax.

        Returns:
            A list of `label` and `score`, best first; for several pictures, a list of these.
        """
        require(top_k is None or top_k >= 1, f"`top_k` must be at least 1, or None for all; found {top_k}.")
        function = usual_function(self.model) if function_to_apply is None else function_to_apply
        several = isinstance(inputs, Sequence) and not isinstance(inputs, str | bytes)
        pictures = list(inputs) if several else [inputs]
        found: list[Any] = []
        for start in range(0, len(pictures), self.batch_size):
            progress(self.name, start, len(pictures), unit="pictures")
            logits_BN = self._logits(pictures[start : start + self.batch_size])
            names = self.labels(logits_BN.shape[1])
            found += [ranked(function, logits, names, top_k) for logits in to_numpy(logits_BN.float())]
        progress(self.name, len(pictures), len(pictures), unit="pictures")
        return found if several else found[0]

    def _logits(self, pictures: Sequence[Any]) -> torch.Tensor:
        """(B, N); pictures that come out in other sizes run apart."""
        made = [self.processor(_openable(picture, self.channels)).pixel_values for picture in pictures]
        if len({pixels.shape for pixels in made}) == 1:
            return self._run(torch.cat(made))
        return torch.cat([self._run(pixels) for pixels in made])

    @property
    def channels(self) -> int:
        """That the model reads."""
        patches = self.model.config.embedding.patches
        assert patches is not None
        return patches.num_channels

    def _run(self, pixels: torch.Tensor) -> torch.Tensor:
        try:
            with torch.inference_mode():
                logits: torch.Tensor | None = self.model(pixel_values=pixels.to(self.model.device)).logits
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"{len(pixels)} pictures do not fit into memory; give a smaller batch size."
            ) from error
        assert logits is not None
        if bool(logits.isnan().any()):
            raise InputError(
                "The model returns NaN: its weights have NaN, or its dtype is too narrow for them."
            )
        return logits


def _openable(picture: Any, channels: int) -> Any:
    """Opened in the model's channels, where it is a file or stored; the rest is the processor's matter."""
    mode: Literal["RGB", "L"] = "L" if channels == 1 else "RGB"
    if isinstance(picture, str | Path | bytes):
        return open_picture(picture, mode=mode)
    if isinstance(picture, STORED):
        return open_picture(picture.read(), mode=mode, name=picture.place)
    return picture
