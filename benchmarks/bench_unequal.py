"""Processes of unequal speed: shares by measured speed, beside DistributedDataParallel with equal ones.

`python benchmarks/bench_unequal.py [--ratios 2,3,8] [--several] [--steps 12] [--batch 32]
[--repeats 3]`. Every process has one thread; slow ones are stopped and continued from outside (SIGSTOP,
SIGCONT) in a duty cycle; none knows of it. Speeds of their own are measured twice: each process by itself,
without communication, all at the same time (`own`), and in the run, as tokens by the time that each worked
(`in run`), which other programs disturb less. `--several` adds 3 and 4 processes, whose duty cycles add up to
two cores at most. Every measurement is told as it comes, too.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

PERIOD = 0.02
SIZES = {"num_hidden_layers": 4, "hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4}
BATCH = 32
WARM = {"own": 2, "ours": 10, "ddp": 1}
"""Steps that are not counted: ours finds the shares in them, which a run does once."""
OWN_SECONDS, OWN_STEPS = 20.0, 3
"""How long speeds of their own are measured: so long, and so many steps of the slowest process."""
DDP_STEPS = 3
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
    if mode == "own":
        for child in children:
            child.stdout.readline()
        for child in children:
            child.stdin.write("enough\n")
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
    """One process: tokens a second after the warm-up; by itself, until all have measured enough."""
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
        rate, waited = ddp(net, Data(), collate, min(steps, DDP_STEPS), size), []
    else:
        trainer = Trainer(net, collate=collate, clip_norm=None, sync=SyncConfig(shares="measured"))
        most = steps if mode == "ours" else 10**6
        session = trainer.setup(Data(), batch_size=size, max_steps=WARM[mode] + most)
        rate, waited = stepping(session, mode)
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


def stepping(session: Any, mode: str) -> tuple[float, list[Any]]:
    """Tokens a second, and each rank's part of the steps that were counted."""
    stopped, said, warm = threading.Event(), False, WARM[mode]
    if mode == "own":
        threading.Thread(target=lambda: (sys.stdin.readline(), stopped.set()), daemon=True).start()
    tokens, waited, started, ended = 0.0, [], 0.0, 0.0
    for number, window in enumerate(session.windows()):
        if number == warm:
            tokens, started, waited = 0.0, time.perf_counter(), []
        done = session.step(window)
        if stopped.is_set():  # others did not run all the time
            break
        tokens, ended = tokens + done.tokens, time.perf_counter()
        waited.append(done.by_rank)
        if mode == "own" and not said and number >= warm:
            said = number - warm + 1 >= OWN_STEPS and ended - started >= OWN_SECONDS
            print("enough\n" * said, end="", flush=True)
    return tokens / (ended - started), waited


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
    for step in range(WARM["ddp"] + steps):
        if step == WARM["ddp"]:
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
    parser.add_argument("--repeats", type=int, default=3, help="how often, in turns")
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
        print("duty cycles | own, sum: tokens a second | shares by speed | DDP, equal shares")
        cases = [(1.0, 1 / float(q)) for q in given.ratios.split(",")] + (SEVERAL if given.several else [])
        for duties in cases:
            report(duties, model, given.steps, given.batch, given.repeats)


def report(duties: tuple[float, ...], model: Path, steps: int, batch: int, repeats: int) -> None:
    """Measure one set of duty cycles in three ways, in turns, and print a line."""
    of_own, of_run, of_ddp, rates, shares = [], [], [], [], ""
    for _ in range(repeats):
        whole = sum(found["rate"] for found in measure("own", duties, model, steps, batch))
        ours = measure("ours", duties, model, steps, batch)[0]
        theirs = measure("ddp", duties, model, steps, batch)[0]["rate"]
        shares = " : ".join(f"{tokens:.0f}" for tokens in ours["shares"])
        rates.append((whole, ours["rate"], theirs))
        of_own.append(ours["rate"] / whole)
        of_run.append(ours["rate"] / ours["in_run"])
        of_ddp.append(theirs / whole)
        each = (whole, ours["rate"], ours["in_run"], theirs)
        print("  own, ours, in run, DDP:", *(f"{value:.0f}" for value in each), file=sys.stderr, flush=True)
    whole, rate, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
    print(
        f"{' '.join(f'{duty:.2f}' for duty in duties):24} {whole:6.0f} | {rate:6.0f} {spread(of_own)} "
        f"of own, {spread(of_run)} of in run | {theirs:6.0f} {spread(of_ddp)} | last step {shares}",
        flush=True,
    )


def spread(found: list[float]) -> str:
    """Median, smallest and largest."""
    middle = f"{statistics.median(found):4.0%}"
    return middle if len(found) == 1 else f"{middle} ({min(found):.0%}–{max(found):.0%})"


if __name__ == "__main__":
    main()
