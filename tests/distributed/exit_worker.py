"""Ends right after its last collective, holding Python's lock and, as sharded models do, the group."""

import sys

import torch
import torch.distributed as dist

from biject.train import ranks

torch.set_num_threads(1)
ranks.start()
sys.modules["held"] = [dist.group.WORLD]  # type: ignore[assignment]
sys.setswitchinterval(1000)
for _ in range(50):
    dist.all_reduce(torch.ones(100_000), async_op=True).wait()
