"""How many rows a picture of a recipe becomes, for planning."""

from __future__ import annotations

from biject.config.model import PatchConfig
from biject.config.recipe import FinetuneRecipe
from biject.pictures.processor import ImageProcessor
from biject.runs.prepare import Material

_LOOKED_AT = 8
"""Pictures that are read where preprocessor_config.json gives them no common size."""


def picture_rows(recipe: FinetuneRecipe, material: Material) -> int:
    """Rows of the largest picture: its patches, and the learned rows before them.

    Pictures that keep sizes of their own are not all read: of some, the one of most patches counts.

    Args:
        recipe: The run.
        material: Its pictures and what makes inputs of them.
    """
    patches = material.identity.config.embedding.patches
    assert isinstance(patches, PatchConfig)  # `plan` is for our own classes
    assert isinstance(material.inputs, ImageProcessor)
    size = material.inputs.steps.size
    sizes = [patches.image_size if size is None else size]
    if size is None:
        train, collate = material.samples.train, material.collator(recipe)
        some = range(0, len(train), max(1, len(train) // _LOOKED_AT))
        shapes = [collate([train[index]])["pixel_values"].shape[-2:] for index in some]
        sizes = [(int(height), int(width)) for height, width in shapes]
    height, width = patches.patch_size
    return patches.before_patches + max((one[0] // height) * (one[1] // width) for one in sizes)
