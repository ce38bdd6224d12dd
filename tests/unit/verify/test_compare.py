"""Where two models part, on toys whose answer is known; no transformers here."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from biject.verify.compare import Pair, first_difference, hf_parameter, pairs_by_name, pairs_from_names


class Toy(nn.Module):
    """A table, then one layer that runs twice, then a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.layer = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)
        self.scale = 1.0
        self.shift = 0

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids + self.shift)
        x = self.layer(x)
        x = self.layer(torch.tanh(x) * self.scale)
        return self.head(x)


@pytest.fixture
def twins() -> tuple[Toy, Toy]:
    torch.manual_seed(0)
    one = Toy()
    return one, copy.deepcopy(one)


def where(one: nn.Module, other: nn.Module) -> str:
    return first_difference(one, other, pairs_by_name(one, other), {"ids": torch.tensor([[1, 2]])})


def test_equal_models_differ_after_everything(twins: tuple[Toy, Toy]) -> None:
    assert where(*twins) == "after head, the last operation that both share"


def test_an_operation_itself(twins: tuple[Toy, Toy]) -> None:
    with torch.no_grad():
        twins[1].head.bias[0] += 1
    assert where(*twins) == "head itself: same input, other output (max abs diff = 1)"


def test_between_two_operations_of_a_shared_layer(twins: tuple[Toy, Toy]) -> None:
    twins[1].scale = 1.5
    assert where(*twins) == "between layer and layer (call 2)"


def test_what_is_fed_first(twins: tuple[Toy, Toy]) -> None:
    twins[1].shift = 1
    assert where(*twins) == "between the inputs and embed: what is fed to the first operation"


def test_no_hooks_are_left(twins: tuple[Toy, Toy]) -> None:
    where(*twins)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for twin in twins for m in twin.modules())


def test_no_pair_is_said_so(twins: tuple[Toy, Toy]) -> None:
    assert "not located" in first_difference(*twins, [], {"ids": torch.tensor([[1]])})


def test_old_names_and_prefixes_find_hfs_parameter() -> None:
    parameters = dict.fromkeys(["bert.embeddings.LayerNorm.weight", "classifier.bias"])
    for disk in (
        "bert.embeddings.LayerNorm.gamma",
        "embeddings.LayerNorm.gamma",
        "embeddings.LayerNorm.weight",
    ):
        assert hf_parameter(disk, parameters, "bert") == "bert.embeddings.LayerNorm.weight"
    assert hf_parameter("bert.classifier.bias", parameters, "bert") == "classifier.bias"
    assert hf_parameter("pooler.weight", parameters, "bert") is None


def test_pairs_are_leaf_modules_only(twins: tuple[Toy, Toy]) -> None:
    ours, theirs = twins[0], nn.ModuleDict({"base": twins[1]})
    names = {
        "layer.weight": ("base.layer.weight", "nowhere.weight"),
        "layer.bias": ("base.layer.bias",),
        "head.weight": (),
        "scale": ("base.scale",),
    }
    assert pairs_from_names(names, ours, theirs) == [Pair("layer", "base.layer")]
