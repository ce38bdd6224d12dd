"""Adapters on models: what trains, what is active, what is kept, what is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from biject import LoraConfig
from biject.adapters.state import adapters_of
from biject.checkpoint.source import open_source
from biject.errors import CheckpointError, ConfigError, InputError, WeightsError
from biject.nn.addresses import align
from biject.nn.lora import LoraModule
from biject.pretrained import PretrainedModel, load
from biject.verify.reference import make_reference

IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return make_reference("bert", "base", tmp_path / "base")


def classifier(folder: Path) -> PretrainedModel:
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="New, randomly"):
        model = load(folder, head="seqcls", new_head={"labels": ["no", "yes"]})
    align(model)
    return model


def noisy(model: PretrainedModel) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))


def test_only_the_adapter_and_the_head_train(bert: Path) -> None:
    model = classifier(bert)
    model.add_adapter(LoraConfig(r=2))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert {name.rpartition(".")[2] for name in trained if "lora" in name} == {"lora_A", "lora_B"}
    assert {name for name in trained if "lora" not in name} == {"head.out.weight", "head.out.bias"}
    model(IDS, labels=torch.tensor([1])).loss.backward()
    assert all(p.grad is None for n, p in model.named_parameters() if n not in trained)


def test_the_base_stays_mapped_in_training(bert: Path) -> None:
    """Adapters never cost the base's memory twice."""
    model = load(bert)
    before = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    model.add_adapter(LoraConfig(r=2))
    model.train()
    after = {name: p.data_ptr() for name, p in model.named_parameters() if name in before}
    assert after == before


def test_several_adapters_and_the_base_again(bert: Path) -> None:
    model = load(bert)
    align(model)
    plain = model(IDS).last_hidden_state
    outputs = {}
    for name in ("one", "two"):
        torch.manual_seed(len(outputs))
        model.add_adapter(LoraConfig(r=2, init_lora_weights=False), name)
        outputs[name] = model(IDS).last_hidden_state
        assert model.active_adapters == (name,)
    assert not torch.equal(outputs["one"], outputs["two"])
    model.set_adapter("one")
    assert torch.equal(model(IDS).last_hidden_state, outputs["one"])
    with model.disable_adapter():
        assert torch.equal(model(IDS).last_hidden_state, plain)
    assert torch.equal(model(IDS).last_hidden_state, outputs["one"])
    model.set_adapter(["one", "two"])
    assert not torch.equal(model(IDS).last_hidden_state, outputs["one"])
    model.delete_adapter("one")
    assert torch.equal(model(IDS).last_hidden_state, outputs["two"])
    model.delete_adapter("two")
    assert torch.equal(model(IDS).last_hidden_state, plain)
    assert not any(isinstance(module, LoraModule) for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ConfigError, match="no adapter"):
        model.set_adapter("one")


def test_each_adapter_has_a_head_and_biases_of_its_own(bert: Path) -> None:
    model = classifier(bert)
    before = model(IDS).logits
    model.add_adapter(LoraConfig(r=2, bias="all"), "one")
    noisy(model)
    one = model(IDS).logits
    model.add_adapter(LoraConfig(r=2), "two")
    assert torch.equal(model(IDS).logits, before)
    model.set_adapter("one")
    assert torch.equal(model(IDS).logits, one)
    with pytest.raises(ConfigError, match="only one of them"):
        model.set_adapter(["one", "two"])
    assert torch.equal(model(IDS).logits, one)


def test_saved_and_loaded_with_the_base_that_it_names(bert: Path, tmp_path: Path) -> None:
    model = classifier(bert)
    model.add_adapter(LoraConfig(r=2))
    noisy(model)
    expected = model(IDS).logits
    model.save_adapter(tmp_path / "a")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "biject.json",
    ]  # fmt: skip
    again = load(tmp_path / "a")
    align(again)
    assert again.head_name == "seqcls"
    assert again.id2label == {0: "no", 1: "yes"}
    assert torch.equal(again(IDS).logits, expected)
    assert not any(parameter.requires_grad for parameter in again.parameters())
    with pytest.raises(CheckpointError, match="exists"):
        model.save_adapter(tmp_path / "a")
    model.save_adapter(tmp_path / "a", force=True)


def test_force_replaces_adapters_only(bert: Path, tmp_path: Path) -> None:
    model = load(bert)
    model.add_adapter(LoraConfig(r=2))
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").write_text("mine")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        model.save_adapter(tmp_path / "web", force=True)
    model.save_adapter(tmp_path / "a")
    (tmp_path / "a" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"notes\.txt"):
        model.save_adapter(tmp_path / "a", force=True)
    assert (tmp_path / "a" / "notes.txt").read_text() == "mine"


def test_a_whole_checkpoint_of_a_model_with_adapters_is_refused(bert: Path, tmp_path: Path) -> None:
    model = load(bert)
    model.add_adapter(LoraConfig(r=2))
    with pytest.raises(ConfigError, match="save_adapter"):
        model.save_pretrained(tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


def test_copies_are_whole(bert: Path) -> None:
    model = load(bert)
    model.add_adapter(LoraConfig(r=2, init_lora_weights=False))
    align(model)
    other = copy.deepcopy(model)
    align(other)
    assert torch.equal(other(IDS).last_hidden_state, model(IDS).last_hidden_state)
    before = model(IDS).last_hidden_state
    noisy(other)
    assert torch.equal(model(IDS).last_hidden_state, before)
    own = {id(parameter) for parameter in other.parameters()}
    assert {
        id(p) for part in adapters_of(other).adapters["default"].parts.values() for p in part.parameters()
    } <= own


def spoilt(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


def test_what_does_not_fit_is_named_and_the_model_stays(bert: Path, tmp_path: Path) -> None:
    model = classifier(bert)
    model.add_adapter(LoraConfig(r=2))
    model.save_adapter(tmp_path / "a")
    plain = load(bert)
    expected = plain(IDS).last_hidden_state
    with pytest.raises(ConfigError, match="for the head 'seqcls'"):
        plain.load_adapter(tmp_path / "a")

    def drop(tensors: dict[str, torch.Tensor]) -> None:
        tensors.pop(next(name for name in tensors if "lora_A" in name))

    def widen(tensors: dict[str, torch.Tensor]) -> None:
        name = next(name for name in tensors if "lora_B" in name)
        tensors[name] = tensors[name].repeat(2, 1)

    def add(tensors: dict[str, torch.Tensor]) -> None:
        tensors["base_model.model.bert.strange.lora_A.weight"] = torch.ones(2, 2)

    for change, says in ((drop, "is missing"), (widen, "should be"), (add, "belongs to no module")):
        model.save_adapter(tmp_path / "a", force=True)
        spoilt(tmp_path / "a", change)
        with pytest.raises(WeightsError, match=says):
            load(tmp_path / "a")
        other = load(bert, head="base")
        assert other.adapters is None
        assert torch.equal(other(IDS).last_hidden_state, expected)


def test_an_adapter_of_another_base_is_refused(bert: Path, tmp_path: Path) -> None:
    model = load(bert)
    model.add_adapter(LoraConfig(r=2, init_lora_weights=False))
    model.save_adapter(tmp_path / "a")
    other = make_reference("bert", "base", tmp_path / "other", seed=7)
    assert open_source(other).config == open_source(bert).config
    with pytest.raises(ConfigError, match="whose weights are others"):
        load(other, adapter=tmp_path / "a")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "gone")
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="adapter="):
        load(tmp_path / "a")
    assert load(bert, adapter=tmp_path / "a").active_adapters == ("default",)


def rows(count: int = 8) -> list[dict[str, torch.Tensor]]:
    return [{"input_ids": IDS[0] + index, "labels": torch.tensor(index % 2)} for index in range(count)]


def test_what_trains_beside_an_adapter_is_refused_by_name(bert: Path, tmp_path: Path) -> None:
    from biject.train import checkpoints
    from biject.train.trainer import Trainer

    model = classifier(bert)
    model.add_adapter(LoraConfig(r=2))
    model.layers[1].mlp_norm.requires_grad_(True)
    options = {"batch_size": 4, "max_steps": 2, "lr": 1e-2}
    says = (
        r"`layers.1.mlp_norm.weight`, `layers.1.mlp_norm.bias` train beside.*modules_to_save \('LayerNorm'\)"
    )
    with pytest.raises(ConfigError, match=says):
        Trainer(model, **options).fit(rows(), eval_dataset=rows(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=says):
        model.save_adapter(tmp_path / "a")
    with pytest.raises(ConfigError, match=says):
        checkpoints.write(model, tmp_path / "step-000001", {})
    Trainer(model, **options).fit(rows())  # nothing is written, and it can be merged
    model.merge_adapter()
    model.save_pretrained(tmp_path / "merged")
    other = classifier(bert)
    other.add_adapter(LoraConfig(r=2, modules_to_save=("output.LayerNorm",)))
    Trainer(other, **options).fit(rows(), eval_dataset=rows(), out=tmp_path / "run")


@pytest.mark.parametrize("later", [False, True])
def test_declared_parameters_train_resume_and_are_stored_beside_an_adapter(
    later: bool, bert: Path, tmp_path: Path
) -> None:
    from biject.parameters import read_adapters
    from biject.train import checkpoints
    from biject.train.trainer import Trainer

    class Scaled(type(load(bert).layers[0].mlp.up_proj)):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * self.scale

    def made() -> PretrainedModel:
        model = classifier(bert)
        torch.manual_seed(0)
        model.add_adapter(LoraConfig(r=2))
        linear = model.layers[0].mlp.up_proj
        linear.__class__ = Scaled
        linear.scale = torch.nn.Parameter(torch.ones(linear.out_features))
        model.declare_adapter("scaled", ["layers.0.mlp.up_proj.scale"])
        return model

    options = {"batch_size": 4, "lr": 1e-2, "checkpoint_every": 2, "keep": 9, "checkpoint_async": later}
    whole, again = made(), made()
    found = Trainer(whole, **options).fit(rows(16), max_steps=4, out=tmp_path / "run")
    scale = whole.layers[0].mlp.up_proj.scale
    assert not torch.equal(scale, torch.ones_like(scale))
    start = tmp_path / "run" / "checkpoints" / "step-000002"
    resumed = Trainer(again, **options).fit(rows(16), max_steps=4, out=tmp_path / "again", resume=start)
    assert resumed.losses == found.losses[2:]
    assert torch.equal(again.layers[0].mlp.up_proj.scale, scale)
    (start / "adapters" / "scaled" / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="'scaled' needs"):
        checkpoints.read(again, start)
    whole.save_adapter(tmp_path / "a")
    whole.save_adapter(tmp_path / "a", force=True)
    other = made()
    read_adapters(other, tmp_path / "a")
    assert torch.equal(other.layers[0].mlp.up_proj.scale, scale)


@pytest.mark.parametrize(
    ("model_type", "head", "named", "how"),
    [
        ("bert", "mlm", ("word_embeddings", "decoder"), "modules_to_save"),
        ("llama", "causal", ("embed_tokens", "lm_head"), "modules_to_save"),
        ("llama", "causal", ("embed_tokens", "lm_head"), "target_modules"),  # PEFT stores what is under it
    ],
)
def test_rows_of_added_tokens_are_stored_or_refused(
    model_type: str, head: str, named: tuple[str, ...], how: str, tmp_path: Path
) -> None:
    from biject.train.trainer import Trainer

    folder = make_reference(model_type, head, tmp_path / "base")

    def resized() -> PretrainedModel:
        torch.manual_seed(1)
        model = load(folder)
        model.resize_token_embeddings(model.tokens.num_embeddings + 5)
        return model

    model = resized()
    model.add_adapter(LoraConfig(r=2))
    with pytest.raises(ConfigError, match=rf"rows.*'{named[0]}'.*modules_to_save"):
        model.save_adapter(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    with pytest.raises(ConfigError, match="added tokens"):
        Trainer(model, max_steps=1).fit(rows(), out=tmp_path / "run")
    other = resized()
    lora = {"modules_to_save": named} if how == "modules_to_save" else {"target_modules": named}
    other.add_adapter(LoraConfig(r=2, init_lora_weights=False, **lora))
    noisy(other)
    other.save_adapter(tmp_path / "a")
    again = resized()
    again.load_adapter(tmp_path / "a")
    for each in (other, again):
        align(each)
    ids = torch.tensor([[5, model.tokens.num_embeddings - 1, 7]])
    assert torch.equal(again(ids).logits, other(ids).logits)


@pytest.mark.parametrize(
    ("model_type", "head", "settings"),
    [
        ("llama", "causal", {"target_modules": ("embed_tokens",)}),
        ("llama", "causal", {"target_modules": ("lm_head",)}),
        ("llama", "causal", {"modules_to_save": ("embed_tokens",)}),
        ("bert", "mlm", {"target_modules": ("word_embeddings",)}),
        ("bert", "mlm", {"bias": "all"}),
    ],
)
def test_what_an_adapter_is_on_is_not_resized(
    model_type: str, head: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    model = load(make_reference(model_type, head, tmp_path / "base"))
    align(model)
    count, expected = model.tokens.num_embeddings, model(IDS).logits
    model.add_adapter(LoraConfig(r=2, **settings))
    model.add_adapter(LoraConfig(r=2), "other")
    with pytest.raises(InputError, match="Resize first, then add the adapter"):
        model.resize_token_embeddings(count + 7)
    assert model.config.vocab_size == count  # nothing is half done
    model.resize_token_embeddings(count)
    model.delete_adapter("default")
    model.resize_token_embeddings(count + 7)
    for active in ("other", None):
        model.set_adapter(active) if active else model.delete_adapter("other")
        align(model)
        assert torch.equal(model(IDS).logits[..., :count], expected)
    assert model(IDS + count - 4).logits.shape[-1] == count + 7


def test_an_adapter_that_was_drawn_from_the_base_is_merged_and_not_stored(bert: Path, tmp_path: Path) -> None:
    from biject.train.trainer import Trainer

    model = classifier(bert)
    model.add_adapter(LoraConfig(r=2, init_lora_weights="pissa_niter_2"))
    with pytest.raises(ConfigError, match="Take `pissa`, which is exact"):
        model.save_adapter(tmp_path / "a")
    with pytest.raises(ConfigError, match="pissa_niter_2"):
        Trainer(model, max_steps=1).fit(rows(), out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == [bert]
    other = classifier(bert)
    other.add_adapter(LoraConfig(r=2, init_lora_weights="pissa"))
    other.save_adapter(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    config["init_lora_weights"] = "pissa_niter_2"  # as PEFT writes one
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="drawn again"):
        load(tmp_path / "a")
    align(model)
    expected = model(IDS).logits
    model.merge_adapter()
    align(model)
    # One product of the sum of weights instead of the sum of two products.
    assert torch.allclose(model(IDS).logits, expected, atol=1e-5)
    model.save_pretrained(tmp_path / "merged")
