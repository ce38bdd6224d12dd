"""ViT (Dosovitskiy et al. 2021). Source: transformers 5.23, models/vit/modeling_vit.py."""

from __future__ import annotations

from biject.config.model import ModelConfig
from biject.config.table import ConfigTable
from biject.families._family import Family
from biject.families._vision import TINY, Values, patches, vision_heads
from biject.families._vit import VIT_IN_MEMORY, VIT_ROWS, vit_backbone, vit_head, vit_model


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    return vit_model(v, patches(v), vit_head(v, name))


FAMILY = Family(
    model_type="vit",
    prefix="vit",
    config=ConfigTable(VIT_ROWS),
    build=build,
    heads=vision_heads("ViT", vit_backbone, pooler=True),
    passthrough=("embeddings.mask_token",),
    in_memory=VIT_IN_MEMORY,
    tiny={**TINY, "intermediate_size": 64},
)
