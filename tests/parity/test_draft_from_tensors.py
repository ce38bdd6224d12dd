"""A draft from names and shapes alone, where no known family is near: how far it gets without a word written
by hand, and that it names what it cannot tell.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import biject.families
from biject.checkpoint.source import Source, open_source
from biject.errors import ConfigError
from biject.families import families, family
from biject.newfamily.draft import first_draft
from biject.newfamily.from_tensors import draft_from_tensors
from biject.newfamily.gates import Gate, run_gates
from biject.newfamily.relatives import nearest_relative
from biject.verify.reference import randomise

UP_TO_BYTES = ["file", "config", "names", "shapes", "bytes"]
SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
BIASES = ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias")
GROUPED = {"num_key_value_heads": 2}


def checkpoint(folder: Path, model_type: str, auto: str, **keys: Any) -> Source:
    import transformers

    config = transformers.AutoConfig.for_model(model_type, **{**SIZES, **keys})
    model = getattr(transformers, auto).from_config(config)
    randomise(model, seed=0)
    model.save_pretrained(folder)
    return open_source(folder)


def gates(text: str, source: Source, tmp_path: Path) -> list[Gate]:
    file = tmp_path / "family_file.py"
    file.write_text(text)
    return list(run_gates(file, source))


def passed(found: list[Gate]) -> list[str]:
    return [gate.name for gate in found if gate.passed]


@pytest.fixture
def without_modernbert(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The registry as it was before the family's file."""

    def others(path: Any) -> list[Any]:
        return [module for module in pkgutil.iter_modules(path) if module.name != "modernbert"]

    monkeypatch.setattr(biject.families, "pkgutil", SimpleNamespace(iter_modules=others))
    biject.families._registered.cache_clear()
    assert "modernbert" not in families()
    with pytest.raises(ConfigError):
        family("modernbert")
    yield
    monkeypatch.undo()
    biject.families._registered.cache_clear()


@pytest.mark.usefixtures("without_modernbert")
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("auto", ["AutoModel", "AutoModelForMaskedLM", "AutoModelForSequenceClassification"])
def test_modernbert_by_itself(auto: str, biased: bool, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "model", "modernbert", auto, **dict.fromkeys(BIASES, biased))
    assert nearest_relative(source).share < 0.1
    text, origin = first_draft(source)
    assert origin.startswith("the tensors' names and shapes")
    found = gates(text, source, tmp_path)
    # Texts of the gates are shorter than the window and float32 rounds nothing in the rotary positions, so
    # that even maths agrees; dropouts and other dtypes are what the draft cannot know of tensors.
    assert passed(found) == [*UP_TO_BYTES, "reload", "forward", "gradients"]
    assert found[-1].name == "variants"
    assert "Inert(" in text
    assert '"local_attention"' in text.partition("# TODO: say what each means")[2]
    assert "local_attention" in text.partition('"""\n\nfrom')[0]


@pytest.mark.usefixtures("without_modernbert")
def test_windows_that_the_draft_lacks_are_seen_by_longer_texts(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "model", "modernbert", "AutoModel", local_attention=8)
    found = gates(first_draft(source)[0], source, tmp_path)
    assert found[-1].name == "forward"
    assert "layers.1.attn" in found[-1].detail
    assert "the window: a token sees 12 tokens away, HF's 4" in found[-1].detail


@pytest.mark.usefixtures("without_modernbert")
def test_the_draft_is_concrete_and_formatted(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "model", "modernbert", "AutoModelForMaskedLM")
    text = first_draft(source)[0]
    assert 'linear("attn.qkv_proj", "attn.Wqkv", bias=v["attention_bias"]),' in text
    assert 'linear("mlp.gate_up_proj", "mlp.Wi", bias=v["mlp_bias"]),' in text
    assert 'Key("hidden_activation", "hidden_act", activation, "gelu"),' in text
    assert "import re" not in text
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize(
    ("model_type", "auto", "keys", "last", "says"),
    [
        ("starcoder2", "AutoModelForCausalLM", GROUPED, "todo", "windows"),
        ("phi3", "AutoModelForCausalLM", GROUPED, "variants", "gradients"),
        ("olmo2", "AutoModelForCausalLM", GROUPED, "variants", "layers.0.attn.q_norm"),
        ("gpt_neox", "AutoModelForCausalLM", {}, "forward", "layers.0.attn.qkv_proj"),
        ("gemma2", "AutoModelForCausalLM", {**GROUPED, "head_dim": 8}, "forward", "embed.tokens"),
        ("megatron-bert", "AutoModelForMaskedLM", {}, "forward", "the kernel"),
        # HF counts MPNet's positions from `pad_token_id + 1` and fails at the length that the draft allows.
        ("mpnet", "AutoModelForMaskedLM", {}, "forward", "IndexError"),
    ],
)
def test_others(
    model_type: str, auto: str, keys: dict[str, int], last: str, says: str, tmp_path: Path
) -> None:
    source = checkpoint(tmp_path / "model", model_type, auto, **keys)
    text, origin = first_draft(source)
    assert origin.startswith("the tensors' names and shapes")
    found = gates(text, source, tmp_path)
    assert passed(found)[:5] == UP_TO_BYTES, found
    assert found[-1].name == last
    assert says in found[-1].detail


GEMMA = {**GROUPED, "head_dim": 8, "sliding_window": 7}
BY_HAND = {
    "gemma2": {
        'kind="rms", eps=v["norm_eps"]': 'kind="rms", eps=v["norm_eps"], weight="from-one"',
        'size=v["hidden_size"],': 'size=v["hidden_size"], scale=v["hidden_size"] ** 0.5,',
    },
    "olmo2": {'kind="rms", eps=v["norm_eps"]': 'kind="rms", eps=v["norm_eps"], weight="float32"'},
}


@pytest.mark.parametrize(
    ("model_type", "keys", "last"), [("gemma2", GEMMA, "todo"), ("olmo2", GROUPED, "variants")]
)
def test_what_no_shape_tells_is_little(
    model_type: str, keys: dict[str, int], last: str, tmp_path: Path
) -> None:
    """Norms over outputs, windows, caps and backend are found. OLMo 2's angles differ in half dtypes."""
    source = checkpoint(tmp_path / "model", model_type, "AutoModelForCausalLM", **keys)
    text = first_draft(source)[0]
    for old, new in BY_HAND[model_type].items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    found = gates(text, source, tmp_path)
    assert passed(found)[:8] == [*UP_TO_BYTES, "reload", "forward", "gradients"]
    assert found[-1].name == last


def test_a_way_down_is_no_stored_transpose(tmp_path: Path) -> None:
    """Where the queries, keys and values together are as many as the MLP is wide."""
    keys = {**GROUPED, "intermediate_size": 64}
    source = checkpoint(tmp_path / "model", "olmo2", "AutoModelForCausalLM", **keys)
    text = first_draft(source)[0]
    assert "transposed" not in text
    assert 'linear("mlp.down_proj", "mlp.down_proj", bias=False)' in text


def renamed(source: Source, changes: dict[str, str]) -> Source:
    file = source.folder / source.weight_files[0]
    tensors = {changes.get(name, name): tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    return open_source(source.folder)


@pytest.mark.usefixtures("without_modernbert")
def test_a_tensor_renamed_to_nonsense_is_named(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "model", "modernbert", "AutoModel")
    source = renamed(source, {"layers.1.attn.Wo.weight": "layers.1.zzz.qqq.weight"})
    text = first_draft(source)[0]
    assert "layers.*.zzz.qqq" in text.partition("from __future__")[0]
    assert '"layers.1.zzz.qqq.weight"' in text
    found = gates(text, source, tmp_path)
    assert [gate.name for gate in found] == ["file", "config", "names", "shapes"]
    assert "1 passed through: layers.1.zzz.qqq.weight" in found[2].detail
    assert "no rule names the parameter `layers.1.attn.o_proj.weight`, of shape (32, 32)" in found[3].detail


@pytest.mark.usefixtures("without_modernbert")
@pytest.mark.parametrize("name", ["final_norm.weight", "embeddings.norm.weight"])
def test_a_tensor_of_the_base_renamed_to_nonsense_is_named(name: str, tmp_path: Path) -> None:
    source = renamed(checkpoint(tmp_path / "model", "modernbert", "AutoModel"), {name: "zzz"})
    text = first_draft(source)[0]
    assert "tensors under no rule: zzz" in text
    found = gates(text, source, tmp_path)
    assert "1 passed through: zzz" in found[2].detail
    assert not found[-1].passed


@pytest.mark.usefixtures("without_modernbert")
def test_a_tensor_of_another_shape_in_one_layer_is_named(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "model", "modernbert", "AutoModel")
    file = source.folder / source.weight_files[0]
    tensors = load_file(file)
    tensors["layers.2.mlp.Wo.weight"] = torch.zeros(32, 47)
    save_file(tensors, file, metadata={"format": "pt"})
    source = open_source(source.folder)
    text = first_draft(source)[0]
    assert "mlp.down_proj (`mlp.Wo`): not in layer 2" in text
    assert "tensors under no rule: layers.2.mlp.Wo.weight" in text
    assert "layers.2.mlp.down_proj.weight" in gates(text, source, tmp_path)[-1].detail


def test_sizes_that_no_key_says(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "model", "megatron-bert", "AutoModel")
    del source.config["num_attention_heads"]
    with pytest.raises(ConfigError, match="num_attention_heads"):
        draft_from_tensors(source)
