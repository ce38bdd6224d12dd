from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from biject.errors import BijectError, BijectWarning, ConfigError, InputError, WeightsError
from biject.model import Model
from biject.pretrained import load
from biject.verify.reference import make_reference

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Model]:
    made: dict[tuple[str, str], Model] = {}

    def get(model_type: str, head: str) -> Model:
        key = (model_type, head)
        if key not in made:
            made[key] = load(make_reference(model_type, head, tmp_path_factory.mktemp("m") / "x"))
        return made[key]

    return get


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, "exactly one"),
        ({"input_ids": IDS, "inputs_embeds": torch.ones(1, 4, 32)}, "exactly one"),
        ({"input_ids": IDS[0]}, "batch, length"),
        ({"inputs_embeds": torch.ones(4, 32)}, "batch, length, width"),
        ({"input_ids": IDS[:, :0]}, "empty batch"),
        ({"input_ids": IDS, "attention_mask": torch.ones(1, 5)}, "attention_mask"),
        ({"input_ids": IDS + 1000}, r"`input_ids` must lie in 0…98"),
        ({"input_ids": IDS - 6}, "input_ids"),
        ({"input_ids": IDS, "token_type_ids": IDS}, "token_type_ids"),
        ({"input_ids": IDS, "position_ids": IDS + 60}, "position_ids"),
        ({"input_ids": IDS.repeat(1, 17)}, "position_ids"),
        ({"input_ids": IDS, "labels": torch.tensor([2])}, r"`labels` must lie in 0…1"),
        ({"input_ids": IDS, "labels": torch.tensor([-1])}, "labels"),
    ],
)
def test_bad_calls_are_one_clear_error(
    inputs: dict[str, torch.Tensor], says: str, models: Callable[[str, str], Model]
) -> None:
    with pytest.raises(InputError, match=says):
        models("bert", "seqcls")(**inputs)


@pytest.mark.parametrize(
    ("head", "given", "says"),
    [
        ("base", ("labels",), "`labels`.*has no loss"),
        ("seqcls", ("start_positions", "end_positions"), "`start_positions` and `end_positions`.*`labels`"),
        ("seqcls", ("labels", "start_positions"), "`labels` and `start_positions`.*from `labels`"),
        ("tokcls", ("end_positions",), "`end_positions`.*from `labels`"),
        ("mlm", ("start_positions",), "`start_positions`.*from `labels`"),
        ("qa", ("labels",), "`labels`.*from `start_positions` and `end_positions`"),
        ("qa", ("start_positions",), "`start_positions`.*from `start_positions` and `end_positions`"),
    ],
)
def test_targets_without_effect_are_named(
    head: str, given: tuple[str, ...], says: str, models: Callable[[str, str], Model]
) -> None:
    with pytest.warns(BijectWarning, match=f"Given {says}"):
        out = models("bert", head)(IDS, **dict.fromkeys(given, torch.tensor([1])))
    assert ("loss" in out) == ("labels" in given and head == "seqcls")


@pytest.mark.parametrize("head", ["seqcls", "qa"])
def test_targets_with_effect_are_not(head: str, models: Callable[[str, str], Model]) -> None:
    names = ("start_positions", "end_positions") if head == "qa" else ("labels",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert models("bert", head)(IDS, **dict.fromkeys(names, torch.tensor([1]))).loss is not None
        assert models("bert", head)(IDS).loss is None


def test_outputs_read_like_hf_s(models: Callable[[str, str], Model]) -> None:
    out = models("bert", "seqcls")(IDS, labels=torch.tensor([1]))
    assert list(out.keys()) == ["loss", "logits"] == list(out)
    assert out[0] is out.loss is out["loss"]
    assert "logits" in out
    assert "hidden_states" not in out
    assert len(out.to_tuple()) == len(out) == 2
    with pytest.raises(KeyError):
        out["hidden_states"]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"head": "causal"}, ConfigError),
        ({"dtype": "int8"}, ConfigError),
        ({"dtype": "float7"}, ConfigError),
        ({"layout": "dense"}, ConfigError),
        ({"numerics": "wild"}, ConfigError),
        ({"head": "qa"}, WeightsError),
    ],
)
def test_bad_options(options: dict[str, str], kind: type[BijectError], tmp_path: Path) -> None:
    folder = make_reference("bert", "base", tmp_path / "x")
    with pytest.raises(kind):
        load(folder, **options)  # type: ignore[arg-type]


def test_shapes_that_contradict_the_config(tmp_path: Path) -> None:
    import json

    folder = make_reference("bert", "base", tmp_path / "x")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": 100, "intermediate_size": 65}))
    with pytest.raises(WeightsError) as caught:
        load(folder)
    assert "`embeddings.word_embeddings.weight` should be floating of shape (100, 32)" in str(caught.value)
    assert "found float32 (99, 32)" in str(caught.value)
    assert "intermediate.dense" in str(caught.value)


def test_writing_to_a_parameter_does_not_reach_the_file(tmp_path: Path) -> None:
    folder = make_reference("bert", "base", tmp_path / "x")
    before = (folder / "model.safetensors").read_bytes()
    model = load(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert (folder / "model.safetensors").read_bytes() == before
    assert not torch.equal(model.embed.tokens.weight, load(folder).embed.tokens.weight)


def test_a_deep_copy_has_parameters_of_its_own(tmp_path: Path) -> None:
    model = load(make_reference("deberta-v2", "mlm", tmp_path / "x"))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.embed.tokens.weight.add_(1.0)
    assert not torch.equal(model.embed.tokens.weight, twin.embed.tokens.weight)
    assert torch.equal(model.embed_norm.weight, twin.embed_norm.weight)
    twin.save_pretrained(tmp_path / "out")
    assert torch.equal(load(tmp_path / "out").embed.tokens.weight, twin.embed.tokens.weight)


def test_trained_weights_are_saved_and_the_old_card_is_not(tmp_path: Path) -> None:
    folder = make_reference("bert", "seqcls", tmp_path / "x")
    (folder / "README.md").write_text("the old card")
    (folder / "tf_model.h5").write_bytes(b"old")
    model = load(folder).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model(IDS, labels=torch.tensor([1])).loss.backward()
    optimizer.step()
    model.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out" / "README.md").exists()
    assert not (tmp_path / "out" / "tf_model.h5").exists()
    again = load(tmp_path / "out")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name
    assert (tmp_path / "out" / "config.json").read_bytes() == (folder / "config.json").read_bytes()
