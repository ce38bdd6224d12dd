"""Shapes by the config alone are those of the modules that are built from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from biject.config.shapes import parameter_shapes
from biject.families import families
from biject.nn.transformer import Transformer

CELLS = [(name, head) for name, family in families().items() for head in family.heads]
VARIANTS = {
    "deberta-v2": [{"conv_kernel_size": 3, "share_att_key": False, "norm_rel_ebd": "layer_norm"},
                   {"pos_att_type": ["c2p"], "share_att_key": False}, {"relative_attention": False}],
    "modernbert": [{"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True}],
    "llama": [{"attention_bias": True, "mlp_bias": True}, {"num_key_value_heads": 1}],
    "electra": [{"embedding_size": 24}, {"embedding_size": 32}],
    "qwen3": [{"head_dim": 24}],
    "gpt2": [{"n_inner": 50}],
    "bert": [{"tie_word_embeddings": False}, {"type_vocab_size": 5}],
}  # fmt: skip


def same(model_type: str, head: str, **overrides: object) -> None:
    known = families()[model_type]
    values = known.config.read({**known.tiny, **overrides})
    if known.resolve is not None:
        values = known.resolve(values, frozenset(), head, None)
    config = known.build(values, head)
    built = {name: tuple(p.shape) for name, p in Transformer(config).named_parameters(remove_duplicate=False)}
    assert parameter_shapes(config) == built


@pytest.mark.parametrize(("model_type", "head"), CELLS)
def test_every_family_and_head(model_type: str, head: str) -> None:
    same(model_type, head)
    for overrides in VARIANTS.get(model_type, []):
        same(model_type, head, **overrides)


def test_a_wrong_width_is_seen() -> None:
    known = families()["bert"]
    config = known.build(known.config.read(known.tiny), "base")
    first = config.layers[0]
    wider = replace(first, mlp=replace(first.mlp, intermediate_size=first.mlp.intermediate_size + 1))
    changed = replace(config, layers=(wider, *config.layers[1:]))
    assert parameter_shapes(changed) != parameter_shapes(config)
