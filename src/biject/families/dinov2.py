"""DINOv2 (Oquab et al. 2023). Source: transformers 5.23, models/dinov2/modeling_dinov2.py.

ViT with layer scale and stochastic depth; positions are interpolated for pictures of any size.
"""

from __future__ import annotations

from biject.config.checks import boolean
from biject.config.model import ModelConfig
from biject.config.table import ConfigTable, Key
from biject.families._dinov2 import (
    DINO_IN_MEMORY,
    DINO_TINY,
    dinov2_backbone,
    dinov2_init,
    dinov2_model,
    dinov2_rows,
)
from biject.families._family import Family
from biject.families._vision import Values, vision_heads


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    return dinov2_model(v, name)


FAMILY = Family(
    model_type="dinov2",
    prefix="dinov2",
    config=ConfigTable(dinov2_rows(patch_size=14), Key("use_mask_token", "use_mask_token", boolean, True)),
    build=build,
    init=dinov2_init,
    heads=vision_heads("Dinov2", dinov2_backbone),
    passthrough=("embeddings.mask_token",),
    kept=("embeddings.mask_token",),
    in_memory=DINO_IN_MEMORY,
    tiny=DINO_TINY,
)
