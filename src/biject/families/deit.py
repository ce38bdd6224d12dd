"""DeiT (Touvron et al. 2021). Source: transformers 5.23, models/deit/modeling_deit.py.

ViT with a second learned row, for distillation; a classifier of its own may read it.
"""

from __future__ import annotations

from biject.config.common import num_labels
from biject.config.heads import DistilledHeadConfig, HeadConfig
from biject.config.model import ModelConfig
from biject.config.table import ConfigTable
from biject.families._family import Family, Head
from biject.families._vision import TINY, Values, patches, vision_heads
from biject.families._vit import VIT_IN_MEMORY, VIT_ROWS, vit_backbone, vit_head, vit_model
from biject.weights.rules import ParamSpecs, head, join, linear


def backbone(v: Values) -> ParamSpecs:
    """The transformer without pooler."""
    return vit_backbone(v, "distillation_token")


def distilled(v: Values) -> ParamSpecs:
    """The model with two classifiers."""
    return join(
        backbone(v),
        head(
            linear("head.out", "cls_classifier"), linear("head.distillation_out", "distillation_classifier")
        ),
    )


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    top: HeadConfig = DistilledHeadConfig(num_labels=num_labels(v))
    return vit_model(
        v, patches(v, tokens=("cls", "distillation")), top if name == "distilled" else vit_head(v, name)
    )


FAMILY = Family(
    model_type="deit",
    prefix="deit",
    config=ConfigTable(VIT_ROWS),
    build=build,
    heads={
        **vision_heads("DeiT", backbone, pooler=True),
        "distilled": Head(hf_class="DeiTForImageClassificationWithTeacher", specs=distilled),
    },
    passthrough=("embeddings.mask_token",),
    kept=("embeddings.mask_token",),
    in_memory=VIT_IN_MEMORY,
    tiny={**TINY, "intermediate_size": 64},
)
