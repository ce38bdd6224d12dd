"""A module and a loop of one's own: python examples/own_module.py

torchrun --nproc-per-node 2 examples/own_module.py     # the same global batches, the same curve
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biject import Trainer
from biject.train import ranks

GLOBAL_BATCH = 16


def made_up(count: int) -> list[tuple[Tensor, Tensor]]:
    """Points of the plane, and a wave over them."""
    points_N2 = 2 * torch.rand((count, 2), generator=torch.Generator().manual_seed(0)) - 1
    return [(point, point.sum().sin()) for point in points_N2]


def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
    """The sum of the errors and how many there are: batches and ranks of any size add up rightly."""
    points_B2, heights_B = batch
    return (model(points_B2).squeeze(-1) - heights_B).square().sum(), len(heights_B)


ranks.start()
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))
trainer = Trainer(model, step=step, lr=1e-2, weight_decay=0.0)
session = trainer.setup(made_up(203), batch_size=GLOBAL_BATCH // ranks.count(), epochs=8)
for window in session.windows():
    done = session.step(window)
    if session.state.step % 13 == 0 and ranks.rank() == 0:
        print(f"step {session.state.step:3}  mean of {done.items:.0f} errors {done.loss:.5f}")
