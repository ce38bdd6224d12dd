"""Data sets without a length hear which epoch it is, where a run is resumed as well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from biject.train.trainer import Trainer


class Stream(IterableDataset[Tensor]):
    """Three numbers an epoch, other ones in each."""

    def __init__(self) -> None:
        self.epoch = -1
        self.told: list[int] = []
        self.given: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.told.append(epoch)

    def __iter__(self) -> Iterator[Tensor]:
        for index in range(3):
            self.given.append(10 * self.epoch + index)
            yield torch.full((2, 1), float(self.given[-1]))


def train(data: Any, steps: int, *, checkpoint_every: int = 0, **options: Any) -> None:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    trainer = Trainer(
        model, step=lambda model, batch: model(batch).square().mean(), checkpoint_every=checkpoint_every
    )
    trainer.fit(data, max_steps=steps, **options)


def test_an_iterable_hears_of_every_epoch() -> None:
    stream = Stream()
    train(stream, 7)
    assert stream.told == [0, 1, 2]
    assert stream.given[:7] == [0, 1, 2, 10, 11, 12, 20]


def test_so_does_what_a_loader_reads() -> None:
    stream = Stream()
    train(DataLoader(stream, batch_size=None), 7)
    assert stream.told == [0, 1, 2]


def test_and_what_a_loader_draws_by() -> None:
    told: list[int] = []

    class Draws(DistributedSampler[Tensor]):
        def set_epoch(self, epoch: int) -> None:
            told.append(epoch)
            super().set_epoch(epoch)

    rows: Any = [torch.ones(1)] * 6
    train(DataLoader(rows, batch_size=2, sampler=Draws(rows, num_replicas=1, rank=0)), 7)
    assert told == [0, 1, 2]


def test_a_resumed_run_goes_on_in_its_epoch(tmp_path: Path) -> None:
    train(Stream(), 8, checkpoint_every=4, out=tmp_path)
    again = Stream()
    train(again, 8, resume=tmp_path / "checkpoints" / "step-000004")
    assert again.told == [1, 2]
    assert again.given[1:3] == [11, 12]
