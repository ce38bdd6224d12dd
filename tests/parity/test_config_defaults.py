"""A key that config.json leaves out means what HF 5.23 takes it to mean, for every family."""

from __future__ import annotations

import pytest

from biject.errors import ConfigError
from biject.families import families

# Keys that HF's config class sets in another way, with what they mean here.
_ELSEWHERE = {
    "num_labels": "HF derives it from id2label",
    "id2label": "HF fills in LABEL_0, LABEL_1",
    "label2id": "HF fills in LABEL_0, LABEL_1",
    "legacy": "HF's default is true; here the tensors decide where the key is absent",
    "pooler_hidden_size": "HF fills in hidden_size",
    "initializer_range": "same value in all families",
    "rope_scaling": "HF names rope_parameters so, too",
    "rope_parameters": "HF fills in the default type; compared below",
    "num_key_value_heads": "HF fills in num_attention_heads where it is null",
    "rope_theta": "HF moves it into rope_parameters; compared below",
    "head_dim": "HF fills in hidden_size / num_attention_heads where it is null",
    "pooler_output_size": "HF fills in the hidden size where it is null",
    "layer_types": "HF derives it from max_window_layers, or from an interval",
    "no_rope_layers": "HF derives it from no_rope_layer_interval",
    "global_rope_theta": "HF moves it into rope_parameters; compared below",
    "local_rope_theta": "HF moves it into rope_parameters; compared below",
    "num_experts": "128 where num_local_experts, transformers 5's name for it, is absent as well",
    "num_local_experts": "the same the other way round",
    "global_attn_every_n_layers": "a key of older files; 3 where it is absent",
    "sliding_window_pattern": "a key of older files; 6 where it is absent",
    "rope_local_base_freq": "HF moves it into rope_parameters; compared below",
}
_MODERNBERT = {
    "local_attention": "128 where sliding_window, another name of its half, is absent; compared below",
    "sliding_window": "HF halves local_attention",
}
_QWEN = {"sliding_window": "HF makes it null unless use_sliding_window; so does window_layers"}


@pytest.mark.parametrize("model_type", list(families()))
def test_defaults_are_hf_s(model_type: str) -> None:
    from transformers import AutoConfig

    hf = AutoConfig.for_model(model_type)
    for key in families()[model_type].config.keys.values():
        if key.name in _ELSEWHERE or (model_type.startswith("qwen") and key.name in _QWEN):
            continue
        if model_type == "modernbert" and key.name in _MODERNBERT:
            continue
        if hasattr(hf, key.name):
            assert getattr(hf, key.name) == key.default, key.name
        else:
            assert key.default in (None, False, -1, 0, 1, "none", "tanh"), key.name


@pytest.mark.parametrize("model_type", list(families()))
def test_other_names_are_hf_s(model_type: str) -> None:
    from transformers import AutoConfig

    hf, known = AutoConfig.for_model(model_type), families()[model_type]
    named = {key.alias: key.name for key in known.config.keys.values() if key.alias is not None}
    assert named == hf.attribute_map
    for alias, own in named.items():
        key = next(key for key in known.config.keys.values() if key.name == own)
        config = {name: value for name, value in known.tiny.items() if name != own} | {alias: 4}
        assert known.config.read(config)[key.field] == getattr(type(hf)(**config), own) == 4
        assert known.config.unknown(config) == ()
        assert known.config.write(config, {key.field: 8}) == {**config, alias: 8}
        for other in (5, 4.0, None):
            with pytest.raises(ConfigError, match=f"`{own}` is 4, but `{alias}`"):
                known.config.read({**config, own: 4, alias: other})
        assert known.config.read({**config, own: 4})[key.field] == 4


@pytest.mark.parametrize("model_type", list(families()))
def test_every_key_of_hf_s_config_is_known(model_type: str) -> None:
    from transformers import AutoConfig

    written = AutoConfig.for_model(model_type).to_dict()
    assert families()[model_type].config.unknown(written) == ()


@pytest.mark.parametrize(
    "model_type", [name for name in families() if "rope_theta" in families()[name].config.keys]
)
def test_default_sizes_of_heads_and_positions_are_hf_s(model_type: str) -> None:
    from transformers import AutoConfig

    hf = AutoConfig.for_model(model_type)
    known = families()[model_type]
    layers = known.build(known.config.read({}), "base").layers
    rope, spec = layers[0].attention.rope, layers[0].attention.spec
    whole = {"rope_type": rope.type, "rope_theta": rope.theta, "partial_rotary_factor": 1.0}
    assert whole == {"partial_rotary_factor": 1.0, **hf.rope_parameters}
    assert spec.num_key_value_heads == hf.num_key_value_heads
    assert spec.head_dim == getattr(hf, "head_dim", hf.hidden_size // hf.num_attention_heads)
    expected = [getattr(hf, "sliding_window", None)] * len(layers)
    for i, kind in enumerate(getattr(hf, "layer_types", None) or ()):
        expected[i] = None if kind == "full_attention" else expected[i]
    assert [layer.attention.spec.window for layer in layers] == expected


@pytest.mark.parametrize("model_type", ["modernbert", "gemma3_text"])
def test_kinds_of_attention_are_hf_s(model_type: str) -> None:
    from transformers import AutoConfig

    hf, known = AutoConfig.for_model(model_type), families()[model_type]
    for layer, kind in zip(known.build(known.config.read({}), "base").layers, hf.layer_types, strict=True):
        rope, spec = layer.attention.rope, layer.attention.spec
        assert {"rope_type": rope.type, "rope_theta": rope.theta} == hf.rope_parameters[kind]
        assert spec.window == (hf.sliding_window if kind == "sliding_attention" else None)


@pytest.mark.parametrize("sizes", [{"sliding_window": 5}, {"local_attention": 11, "sliding_window": 5}])
def test_modernbert_s_window_by_its_half(sizes: dict[str, int]) -> None:
    from transformers import AutoConfig

    hf, known = AutoConfig.for_model("modernbert", **sizes), families()["modernbert"]
    specs = [layer.attention.spec for layer in known.build(known.config.read(sizes), "base").layers]
    assert {spec.window for spec in specs} == {None, hf.sliding_window} == {None, 5}
    assert known.config.unknown(sizes) == ()
    with pytest.raises(ConfigError, match=r"`local_attention` is 8, .* 4 .* `sliding_window`.* 5"):
        known.build(known.config.read({**sizes, "local_attention": 8}), "base")
