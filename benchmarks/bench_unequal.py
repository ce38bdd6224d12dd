"""Processes of unequal speed: shares by measured speed, beside DistributedDataParallel with equal ones.

`python benchmarks/bench_unequal.py [--ratios 2,3,8] [--several] [--steps 12] [--batch 32]`. Every process has
one thread; slow ones are stopped and continued from outside (SIGSTOP, SIGCONT) in a duty cycle; none
knows of it.
Speeds of their own are measured twice: each process by itself, without communication, all at the same time
(`own`), and in the run, as tokens by the time that each worked (`in run`), which other programs
disturb less. `--several` adds 3 and 4 processes, whose duty cycles add up to two cores at most.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

PERIOD = 0.02
SIZES = {"num_hidden_layers": 4, "hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4}
BATCH, WARM = 32, 4
SEVERAL = [(1.0, 0.5, 0.25), (0.8, 0.5, 0.4, 0.2)]


def throttle(pid: int, duty: float, until: threading.Event) -> None:
    """Let a process run for a share of the time."""
    try:
        while not until.is_set():
            os.kill(pid, signal.SIGCONT)
            time.sleep(PERIOD * duty)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(PERIOD * (1 - duty))
    except ProcessLookupError:
        return


def measure(
    mode: str, duties: tuple[float, ...], model: Path, steps: int, batch: int = BATCH
) -> list[dict[str, Any]]:
    """What every process found."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    children = []
    for rank in range(len(duties)):
        group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": len(duties), "MASTER_PORT": port}
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "passive",
            "MASTER_ADDR": "127.0.0.1",
        }
        if mode != "own":
            environment |= {name: str(value) for name, value in group.items()}
        command = [sys.executable, __file__, "--worker", mode, "--model", str(model), "--steps", str(steps)]
        command += ["--batch", str(batch)]
        pipe = subprocess.PIPE
        children.append(subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True))
    for child in children:
        child.stdout.readline()
    done = threading.Event()
    threads = [
        threading.Thread(target=throttle, args=(child.pid, duty, done))
        for child, duty in zip(children, duties, strict=True)
        if duty < 1
    ]
    for thread in threads:
        thread.start()
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    results = [json.loads(child.stdout.readline()) for child in children]
    done.set()
    for thread in threads:
        thread.join()
    for child in children:
        os.kill(child.pid, signal.SIGCONT)
        child.stdin.close()
        child.wait()
    return results


def worker(mode: str, model: Path, steps: int, size: int) -> None:
    """One process: tokens a second after the warm-up."""
    import torch

    torch.set_num_threads(1)
    from biject.config.sync import SyncConfig
    from biject.pretrained import load
    from biject.train import ranks
    from biject.train.trainer import Trainer

    net = load(model)
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(24, 65, (4096,), generator=draw).tolist()
    samples = [torch.randint(5, 90, (length,), generator=draw) for length in lengths]

    class Data:
        def __init__(self) -> None:
            self.lengths = lengths

        def __len__(self) -> int:
            return len(samples)

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"ids": samples[index], "label": index % 2}

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = torch.nn.utils.rnn.pad_sequence([sample["ids"] for sample in batch], batch_first=True)
        labels = torch.tensor([sample["label"] for sample in batch])
        return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}

    print("ready", flush=True)
    sys.stdin.readline()
    if mode == "ddp":
        rate, waited = ddp(net, Data(), collate, steps, size), []
    else:
        trainer = Trainer(net, collate=collate, clip_norm=None, sync=SyncConfig(shares="measured"))
        session = trainer.setup(Data(), batch_size=size, max_steps=WARM + steps)
        tokens, waited, started = 0.0, [], 0.0
        for number, window in enumerate(session.windows()):
            if number == WARM:
                tokens, started, waited = 0.0, time.perf_counter(), []
            done = session.step(window)
            tokens += done.tokens
            waited.append(done.by_rank)
        rate = tokens / (time.perf_counter() - started)
    shares, in_run = [], 0.0
    if waited and waited[-1]:
        shares = [rank.tokens for rank in waited[-1]]
        for parts in zip(*waited, strict=True):
            in_run += 1000 * sum(part.tokens for part in parts) / sum(part.work_ms for part in parts)
    rank = ranks.rank()
    if ranks.count() > 1:
        ranks.wait()
    print(json.dumps({"rate": rate, "rank": rank, "shares": shares, "in_run": in_run}), flush=True)
    sys.stdin.read()


def ddp(net: Any, data: Any, collate: Any, steps: int, size: int) -> float:
    """The same model, optimizer and batches in DistributedDataParallel's loop."""
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    rank, count = dist.get_rank(), dist.get_world_size()
    wrapped = DistributedDataParallel(net.train())
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-5, fused=True)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
    tokens, started, total = 0.0, 0.0, torch.zeros(1, dtype=torch.float64)
    for step in range(WARM + steps):
        if step == WARM:
            tokens, started = 0.0, time.perf_counter()
        at = (step * count + rank) * size % (len(data) - size)
        batch = collate([data[i] for i in order[at : at + size]])
        optimizer.zero_grad(set_to_none=True)
        wrapped(**batch).loss.backward()
        optimizer.step()
        tokens += float(batch["attention_mask"].sum())
    seconds = time.perf_counter() - started
    total[0] = tokens
    dist.all_reduce(total)
    return float(total) / seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ratios", default="2,3,8")
    parser.add_argument("--several", action="store_true")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=BATCH, help="texts a process and step")
    parser.add_argument("--worker")
    parser.add_argument("--model", type=Path)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, given.model, given.steps, given.batch)
        return
    from biject.verify.reference import make_reference

    with tempfile.TemporaryDirectory() as place:
        off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **SIZES}
        model = make_reference("bert", "seqcls", Path(place) / "model", overrides=off)
        print(
            f"load {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores, {given.batch} texts a process and step"
        )
        print(
            f"{'duty cycles; tokens a second':29} {'own, sum':>8} "
            f"{'shares by speed: rate, of own, of in run':>44} {'DDP':>18}"
        )
        cases = [(1.0, 1 / float(q)) for q in given.ratios.split(",")] + (SEVERAL if given.several else [])
        for duties in cases:
            report(duties, model, given.steps, given.batch)


def report(duties: tuple[float, ...], model: Path, steps: int, batch: int) -> None:
    """Measure one set of duty cycles in three ways, and print a line."""
    whole = sum(found["rate"] for found in measure("own", duties, model, steps, batch))
    ours = measure("ours", duties, model, steps, batch)[0]
    theirs = measure("ddp", duties, model, steps, batch)[0]["rate"]
    rate, shares = ours["rate"], " : ".join(f"{tokens:.0f}" for tokens in ours["shares"])
    print(
        f"{' '.join(f'{duty:.2f}' for duty in duties):29} {whole:8.0f} {rate:20.0f} {rate / whole:10.0%} "
        f"{rate / ours['in_run']:12.0%} {theirs:10.0f} {theirs / whole:7.0%}   last step {shares}",
        flush=True,
    )


if __name__ == "__main__":
    main()
