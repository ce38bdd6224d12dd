"""Processes of unequal speed: shares by measured speed, beside DistributedDataParallel with equal ones.

`python benchmarks/bench_unequal.py [--ratios 2,3,8] [--several] [--steps 2] [--batch 32] [--accumulate 8]
[--turns 7]`. A process's part of a step is 8 batches of 32 texts, of its own as of ours and DDP's (which
exchanges gradients after the last one); shares by speed are cut into batches of 32 texts, too.
Every process has one thread; slow ones are stopped and continued from outside (SIGSTOP, SIGCONT) in a duty
cycle; none knows of it. Three groups of processes live at the same time and work in turns of some seconds,
as a machine whose clock moves by 10 % within a minute asks for; those whose turn it is not wait for a line on
their standard input: `own` (each by itself, no communication, all at the same time until each has done its
steps), `ours` (one run, shares by speed) and `ddp` (equal shares). A turn of ours and of DDP is compared with
the mean of the own speeds right before and after it. Beside it stands the share of the speeds in the run:
tokens by the time that each process worked. `--several` adds 3 and 4 processes, whose duty cycles add up to
two cores at most.
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
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

PERIOD = 0.02
SIZES = {"num_hidden_layers": 4, "hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4}
WARM = {"own": 1, "ours": 10, "ddp": 1}
"""Steps that are not counted: ours finds the shares in them, which a run does once."""
OWN_SECONDS, OWN_STEPS = 6.0, 1
"""How long a turn of own speeds is at least: so long, and so many steps of the slowest process."""
DDP_STEPS = 1
SEVERAL = [(1.0, 0.5, 0.25), (0.8, 0.5, 0.4, 0.2)]
Duties = tuple[float, ...]


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


class Group:
    """Processes of one kind, one for each duty cycle, that work when they are told to."""

    def __init__(self, mode: str, duties: Duties, model: Path, batch: int, accumulate: int) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "MASTER_ADDR": "127.0.0.1"}
        self.mode, self.children = mode, []
        for rank in range(len(duties)):
            group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": len(duties), "MASTER_PORT": port}
            environment = os.environ | quiet
            if mode != "own":
                environment |= {name: str(value) for name, value in group.items()}
            command = [sys.executable, __file__, "--worker", mode, "--model", str(model)]
            command += ["--batch", str(batch), "--accumulate", str(accumulate)]
            pipe = subprocess.PIPE
            self.children.append(
                subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
            )

    def tell(self, line: str) -> None:
        for child in self.children:
            child.stdin.write(line + "\n")
            child.stdin.flush()

    def hear(self) -> list[str]:
        """One line of every process."""
        return [child.stdout.readline() for child in self.children]

    def turn(self, steps: int) -> list[dict[str, Any]]:
        """Let all work, and give what each found; own speeds are measured while every process works."""
        self.tell(str(steps))
        if self.mode == "own":
            self.hear()
            self.tell("enough")
        return [json.loads(line) for line in self.hear()]


@contextmanager
def working(duties: Duties, model: Path, batch: int, accumulate: int) -> Iterator[dict[str, Group]]:
    """The three groups, slowed, after their warm-up."""
    groups = {mode: Group(mode, duties, model, batch, accumulate) for mode in ("own", "ours", "ddp")}
    done = threading.Event()
    threads = []
    for group in groups.values():
        group.hear()
        for child, duty in zip(group.children, duties, strict=True):
            if duty < 1:
                threads.append(threading.Thread(target=throttle, args=(child.pid, duty, done)))
    for thread in threads:
        thread.start()
    try:
        for mode, group in groups.items():
            group.turn(WARM[mode])
        yield groups
    finally:
        done.set()
        for thread in threads:
            thread.join()
        for child in (child for group in groups.values() for child in group.children):
            child.kill()
            child.wait()


def worker(mode: str, model: Path, size: int, accumulate: int) -> None:
    """One process: as many steps as a line on standard input says, then what they took."""
    import torch

    torch.set_num_threads(1)
    from biject.pretrained import load

    net = load(model)
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(24, 65, (8192,), generator=draw).tolist()
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
    make = ddp if mode == "ddp" else trained
    steps = make(net, Data(), collate, size, accumulate)
    while line := sys.stdin.readline():
        if mode == "own":
            alone(steps)
        else:
            together(steps, int(line))


def trained(net: Any, data: Any, collate: Any, size: int, accumulate: int) -> Iterator[Any]:
    """Biject's trainer: a step each time; tokens of all processes, and what each did."""
    from biject import TrainConfig
    from biject.config.sync import SyncConfig
    from biject.train.trainer import Trainer

    config = TrainConfig(batch_size=size, accumulate=accumulate, clip_norm=None)
    trainer = Trainer(net, config=config, collate=collate, sync=SyncConfig(shares="measured"))
    session = trainer.setup(data, max_steps=10**6)
    windows = session.windows()
    while True:
        done = session.step(next(windows))
        yield done.tokens, done.by_rank, done.sync_ms


def ddp(net: Any, data: Any, collate: Any, size: int, accumulate: int) -> Iterator[Any]:
    """The same model, optimizer and batches in DistributedDataParallel's loop."""
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    rank, count = dist.get_rank(), dist.get_world_size()
    wrapped = DistributedDataParallel(net.train())
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-5, fused=True)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
    step = 0
    while True:
        tokens = torch.zeros(1, dtype=torch.float64)
        optimizer.zero_grad(set_to_none=True)
        for part in range(accumulate):
            at = ((step * count + rank) * accumulate + part) * size % (len(data) - size)
            batch = collate([data[i] for i in order[at : at + size]])
            tokens += batch["attention_mask"].sum()
            with nullcontext() if part == accumulate - 1 else wrapped.no_sync():
                (wrapped(**batch).loss / accumulate).backward()
        optimizer.step()
        dist.all_reduce(tokens)
        step += 1
        yield float(tokens), (), 0.0


def together(steps: Iterator[Any], count: int) -> None:
    """So many steps of all processes."""
    started, parts, tokens, exchange = time.perf_counter(), [], 0.0, 0.0
    for _ in range(count):
        done, by_rank, sync_ms = next(steps)
        tokens += done
        exchange += sync_ms / 1000
        parts.append(by_rank)
    seconds = time.perf_counter() - started
    in_run = sum(
        1000 * sum(part.tokens for part in own) / sum(part.work_ms for part in own)
        for own in zip(*parts, strict=True)
    )
    shares = [part.tokens for part in parts[-1]]
    waits = [sum(part.wait_ms for part in own) / 1000 / seconds for own in zip(*parts, strict=True)]
    found = {"rate": tokens / seconds, "in_run": in_run, "shares": shares, "waits": waits}
    print(json.dumps({**found, "exchange": exchange / seconds}), flush=True)


def alone(steps: Iterator[Any]) -> None:
    """Steps of one process until all others have measured enough, too."""
    stopped = threading.Event()
    listener = threading.Thread(target=lambda: (sys.stdin.readline(), stopped.set()), daemon=True)
    listener.start()
    started, tokens, ended, count, said = time.perf_counter(), 0.0, 0.0, 0, False
    while True:
        done, *_ = next(steps)
        if stopped.is_set() and said:  # others did not work all the time
            break
        tokens, ended, count = tokens + done, time.perf_counter(), count + 1
        if not said and count >= OWN_STEPS and ended - started >= OWN_SECONDS:
            print("enough", flush=True)
            said = True
    listener.join()
    print(json.dumps({"rate": tokens / (ended - started)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ratios", default="2,3,8")
    parser.add_argument("--several", action="store_true")
    parser.add_argument("--steps", type=int, default=2, help="of ours in a turn")
    parser.add_argument("--batch", type=int, default=32, help="texts of a batch")
    parser.add_argument("--accumulate", type=int, default=8, help="batches a process and step")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--worker")
    parser.add_argument("--model", type=Path)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, given.model, given.batch, given.accumulate)
        return
    from biject.verify.reference import make_reference

    with tempfile.TemporaryDirectory() as place:
        off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **SIZES}
        model = make_reference("bert", "seqcls", Path(place) / "model", overrides=off)
        print(
            f"load {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores, {given.accumulate} batches of "
            f"{given.batch} texts a process and step"
        )
        print("duty cycles | own, sum: tokens a second | shares by speed | DDP, equal shares")
        cases = [(1.0, 1 / float(q)) for q in given.ratios.split(",")] if given.ratios else []
        for duties in cases + (SEVERAL if given.several else []):
            report(duties, model, given)


def report(duties: Duties, model: Path, given: argparse.Namespace) -> None:
    """Measure one set of duty cycles in turns, and print a line."""
    of_own, of_run, of_ddp, rates, shares = [], [], [], [], ""
    with working(duties, model, given.batch, given.accumulate) as groups:

        def own() -> float:
            return float(sum(found["rate"] for found in groups["own"].turn(0)))

        before = own()
        for _ in range(given.turns):
            ours = groups["ours"].turn(given.steps)[0]
            between = own()
            theirs = groups["ddp"].turn(DDP_STEPS)[0]["rate"]
            after = own()
            of_own.append(2 * ours["rate"] / (before + between))
            of_run.append(ours["rate"] / ours["in_run"])
            of_ddp.append(2 * theirs / (between + after))
            rates.append((between, ours["rate"], theirs))
            shares = " : ".join(f"{tokens:.0f}" for tokens in ours["shares"])
            each = (before, ours["rate"], ours["in_run"], between, theirs, after)
            told = " ".join(f"{value:.0f}" for value in each)
            lost = " ".join(f"{share:.1%}" for share in (*ours["waits"], ours["exchange"]))
            print(
                f"  own, ours, in run, own, DDP, own: {told}; waits, exchange: {lost}",
                file=sys.stderr,
                flush=True,
            )
            before = after
    whole, rate, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
    print(
        f"{' '.join(f'{duty:.2f}' for duty in duties):24} {whole:6.0f} | {rate:6.0f} {spread(of_own)} "
        f"of own, {spread(of_run)} of in run | {theirs:6.0f} {spread(of_ddp)} | last step {shares}",
        flush=True,
    )


def spread(found: list[float]) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(found):5.1%} ({min(found):.0%}–{max(found):.0%})"


if __name__ == "__main__":
    main()
