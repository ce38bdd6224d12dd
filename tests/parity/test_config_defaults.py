"""A key that config.json leaves out means what HF 5.23 takes it to mean, for every family."""

from __future__ import annotations

import pytest

from biject.families import families

# Keys that HF's config class sets in another way, with what they mean here.
_ELSEWHERE = {
    "num_labels": "HF derives it from id2label",
    "id2label": "HF fills in LABEL_0, LABEL_1",
    "label2id": "HF fills in LABEL_0, LABEL_1",
    "legacy": "HF's default is true; here the tensors decide where the key is absent",
    "pooler_hidden_size": "HF fills in hidden_size",
    "initializer_range": "same value in all families",
}


@pytest.mark.parametrize("model_type", list(families()))
def test_defaults_are_hf_s(model_type: str) -> None:
    from transformers import AutoConfig

    hf = AutoConfig.for_model(model_type)
    for key in families()[model_type].config.keys.values():
        if key.name in _ELSEWHERE:
            continue
        if hasattr(hf, key.name):
            assert getattr(hf, key.name) == key.default, key.name
        else:
            assert key.default in (None, False, -1, 0, 1, "none", "tanh"), key.name


@pytest.mark.parametrize("model_type", list(families()))
def test_every_key_of_hf_s_config_is_known(model_type: str) -> None:
    from transformers import AutoConfig

    written = AutoConfig.for_model(model_type).to_dict()
    assert families()[model_type].config.unknown(written) == ()
