"""A small model of one's own and its data; torch runs one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class MLP(nn.Module):
    """Norm and dropout, named as an encoder's layers are."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.layers = nn.ModuleList([nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16)) for _ in range(2)])
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = x + self.dropout(layer(x))
        return self.head(x)


@pytest.fixture
def make() -> Callable[[], MLP]:
    def build() -> MLP:
        torch.manual_seed(0)
        return MLP()

    return build


@pytest.fixture
def data() -> list[tuple[Tensor, int]]:
    draw = torch.Generator().manual_seed(2)
    return [(torch.randn(6, generator=draw), index % 3) for index in range(50)]


@pytest.fixture
def step() -> Callable[[nn.Module, Any], Tensor]:
    return lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1])


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from biject.verify.reference import make_reference

    return make_reference("bert", "seqcls", tmp_path_factory.mktemp("train") / "bert")


@pytest.fixture
def texts() -> list[dict[str, Any]]:
    draw = torch.Generator().manual_seed(3)
    return [
        {"input_ids": torch.randint(5, 90, (9,), generator=draw), "labels": torch.tensor(index % 2)}
        for index in range(40)
    ]
