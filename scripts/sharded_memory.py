"""Memory of a sharded model, rank by rank.

`python scripts/sharded_memory.py [--ranks 4] [--gigabytes 2] [--lora 8]`

Makes a random LLaMA in a temporary folder, spreads it over Gloo processes by FSDP2, runs a forward and a
backward pass over short rows with gradients and a step of AdamW, and prints every rank's anonymous peak (what
it allocated; pages of the mapped file are not counted) beside the model's size. A rank needs its part of the
weights and of the gradients of what is trained, AdamW's two moments of these, two gathered layers, and
activations.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

VOCABULARY = 8192


def anonymous() -> int:
    """Bytes that this process allocated and holds."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status has no RssAnon")


class Peak:
    """The most that was held while the block ran, looked at every 5 milliseconds."""

    def __enter__(self) -> Peak:
        self.value, self._over = anonymous(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.value = max(self.value, anonymous())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.value = max(self.value, anonymous())


def worker(folder: Path, *, rank_of_adapter: int, keep_freed: bool) -> None:
    """One rank."""
    import torch

    torch.set_num_threads(1)
    from biject.config.adapter import LoraConfig
    from biject.distributed import sharding
    from biject.distributed.sharding import shard
    from biject.pretrained import load
    from biject.train import ranks

    if keep_freed:
        sharding._give_freed_memory_back = lambda: None
    ranks.start()
    before = anonymous()
    with Peak() as loading:
        model = load(folder)
        if rank_of_adapter:
            model.add_adapter(LoraConfig(r=rank_of_adapter, target_modules="all-linear"))
        whole = sum(p.numel() * p.element_size() for p in model.parameters())
        shard(model)
    parts = anonymous() - before
    ids = torch.randint(5, VOCABULARY, (1, 16), generator=torch.Generator().manual_seed(ranks.rank()))
    with Peak() as forward, torch.no_grad():
        model.eval()
        model(ids)
    model.train()
    with Peak() as both:
        loss = model(input_ids=ids, labels=ids).loss
        kept = anonymous() - before - parts  # nothing is gathered now
        loss.backward()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    with Peak() as step:
        optimizer.step()
    peaks = (loading, forward, both, step)
    numbers = [parts, kept, *(peak.value - before for peak in peaks)]
    found = ranks.everyones([number / whole for number in numbers])
    if ranks.rank() == 0:
        print(f"model {whole / 1e9:.2f} GB in float32, {ranks.count()} ranks; shares of it")
        for rank, shares in enumerate(found):
            held, kept_for_it, loaded, once, gradients, stepped = shares
            print(
                f"rank {rank}: parts {held:.3f}, peak of loading {loaded:.3f}, of a forward pass {once:.3f}, "
                f"of forward and backward with gradients {gradients:.3f} (activations {kept_for_it:.3f}), "
                f"of AdamW's step {stepped:.3f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--hidden", type=int, default=1024, help="width of a layer")
    parser.add_argument("--lora", type=int, default=0, help="train an adapter of this rank, not the model")
    parser.add_argument("--keep-freed", action="store_true", help="leave glibc's heaps alone, to compare")
    parser.add_argument("--worker", type=Path)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, rank_of_adapter=given.lora, keep_freed=given.keep_freed)
        return
    from biject.verify.reference import make_reference

    hidden, intermediate = given.hidden, given.hidden * 11 // 4
    layer = 4 * hidden * hidden + 3 * hidden * intermediate
    layers = max(1, round((given.gigabytes * 1e9 / 4 - 2 * VOCABULARY * hidden) / layer))
    sizes = {
        "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers,
        "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": hidden // 16,
        "vocab_size": VOCABULARY, "tie_word_embeddings": False, "attention_dropout": 0.0,
    }  # fmt: skip
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = make_reference("llama", "causal", Path(place) / "model", overrides=sizes)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(given.ranks), __file__, "--worker", str(folder)]
        command += ["--lora", str(given.lora)]
        command += ["--keep-freed"] if given.keep_freed else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        subprocess.run(command, env=environment, check=True)
    print(f"{layers} layers, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
