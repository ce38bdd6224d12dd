"""DINOv2 with registers (Darcet et al. 2024). Source: transformers 5.23,
models/dinov2_with_registers/modeling_dinov2_with_registers.py.

Learned rows without positions after the class token's; positions are interpolated with a low-pass filter.
"""

from __future__ import annotations

from biject.config.checks import integer
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
from biject.weights.rules import ParamSpecs


def backbone(v: Values) -> ParamSpecs:
    """Names of the transformer."""
    return dinov2_backbone(v, "register_tokens")


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    return dinov2_model(v, name, registers=v["num_register_tokens"], antialias=True)


FAMILY = Family(
    model_type="dinov2_with_registers",
    prefix="dinov2_with_registers",
    config=ConfigTable(
        dinov2_rows(patch_size=16), Key("num_register_tokens", "num_register_tokens", integer(1), 4)
    ),
    build=build,
    init=dinov2_init,
    heads=vision_heads("Dinov2WithRegisters", backbone),
    passthrough=("embeddings.mask_token",),
    kept=("embeddings.mask_token",),
    in_memory=DINO_IN_MEMORY,
    tiny={**DINO_TINY, "num_register_tokens": 3},
)
