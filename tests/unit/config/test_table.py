from __future__ import annotations

import json
from typing import Any

import pytest

from biject.config.table import Key
from biject.errors import ConfigError
from biject.families import family, text_families
from biject.identify import identify
from biject.weights.rules import memory_names

FAMILIES = list(text_families())


def other(key: Key, value: Any) -> Any:
    """A value that the key accepts and that differs from `value`."""
    candidates = [
        True,
        False,
        3,
        1,
        0.25,
        0.5,
        "relu",
        "gelu",
        "mean",
        "regression",
        "layer_norm",
        {"0": "a"},
        ["c2p"],
    ]
    return next(c for c in candidates if key.check(c) is None and (c != value or type(c) is not type(value)))


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_key_that_is_read_is_written(model_type: str) -> None:
    table, hf = text_families()[model_type].config, dict(text_families()[model_type].tiny)
    for field, key in table.keys.items():
        changed = other(key, table.read(hf)[field])
        written = table.write(hf, {field: changed})
        assert written[key.name] == changed
        assert table.read(json.loads(json.dumps(written)))[field] == changed
        assert {name: v for name, v in written.items() if name != key.name} == {
            name: v for name, v in hf.items() if name != key.name
        }


@pytest.mark.parametrize("model_type", FAMILIES)
def test_no_name_stands_in_two_rows(model_type: str) -> None:
    table = text_families()[model_type].config
    names = [key.name for key in table.keys.values()]
    assert len(names) == len(set(names))
    assert not {const.name for const in table.consts} & set(names)


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "relative_key_query"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("is_causal", True),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"quant_method": "gptq"}),
        ("per_layer_config", {"0": {"hidden_act": "relu"}}),
        ("vocab_size", "many"),
        ("vocab_size", 0),
        ("vocab_size", True),
        ("max_position_embeddings", -1),
        ("tie_word_embeddings", "yes"),
        ("problem_type", "clustering"),
        ("id2label", {"1": "a", "2": "b"}),
        ("id2label", {}),
        ("id2label", {"a": "b"}),
        ("pad_token_id", -1),
        ("pad_token_id", 10**6),
    ],
)
def test_what_cannot_be_computed_names_key_and_value(model_type: str, key: str, value: Any) -> None:
    known = text_families()[model_type]
    if "causal" in known.heads and key in ("position_embedding_type", "is_decoder"):
        pytest.skip("decoders have no such key, or compute it")
    if (model_type, key) == ("modernbert", "position_embedding_type"):
        pytest.skip("nothing reads it there")
    if "causal" in known.heads and (key, value) in (("is_causal", True), ("pad_token_id", -1)):
        value = {"is_causal": False, "pad_token_id": -1000}[key]  # -1 is the last row, as in HF
    key = known.config.keys[key].name if key in known.config.keys else key
    hf = {**known.tiny, "model_type": model_type, key: value}
    with pytest.raises(ConfigError) as caught:
        identify(hf, [], same=lambda a, b: True)
    assert f"`{key}`" in str(caught.value)
    assert (repr(value) if not isinstance(value, int) or isinstance(value, bool) else str(value)) in str(
        caught.value
    )


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("act", ["prelu", "xielu", "nonsense", None, 3])
def test_activations_that_are_not_computed(model_type: str, act: Any) -> None:
    known = text_families()[model_type]
    name = known.config.keys["hidden_act"].name
    with pytest.raises(ConfigError, match=f"`{name}`"):
        known.config.read({**known.tiny, name: act})


@pytest.mark.parametrize("model_type", FAMILIES)
def test_faults_come_in_one_message(model_type: str) -> None:
    known = text_families()[model_type]
    with pytest.raises(ConfigError) as caught:
        known.config.read({**known.tiny, "vocab_size": 0, "add_cross_attention": True})
    assert "`vocab_size`" in str(caught.value)
    assert "`add_cross_attention`" in str(caught.value)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_sizes_that_do_not_divide(model_type: str) -> None:
    known = text_families()[model_type]
    heads = known.config.keys["num_attention_heads"].name
    with pytest.raises(ConfigError, match="multiple"):
        identify({**known.tiny, "model_type": model_type, heads: 5}, [], same=lambda a, b: True)


@pytest.mark.parametrize("model_type", ["gpt5", None, 3, "_encoder", "../bert", "deberta_v2"])
def test_unknown_family(model_type: Any) -> None:
    with pytest.raises(ConfigError, match="model_type") as caught:
        family(model_type)
    assert "distilbert" in str(caught.value)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_memory_names_are_the_modules_parameters(model_type: str) -> None:
    from biject.nn.transformer import Transformer

    known = text_families()[model_type]
    for name, head in known.heads.items():
        values: Any = known.config.read(known.tiny)
        values = known.resolve(values, frozenset(), name, None) if known.resolve else values
        config = known.build(values, name)
        parameters = dict(Transformer(config).named_parameters())
        assert all(parameter.is_meta for parameter in parameters.values())
        specs = [spec for spec in head.specs(values) if not (spec.tied_to and config.tied_output)]
        assert set(memory_names(specs)) == set(parameters)
