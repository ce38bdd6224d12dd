"""Several processes that encode: each opens the model in one folder, so that its weights are in memory once.

A worker that fails tells why and goes on; one that dies is noticed. Source of the calls:
sentence-transformers 6.2, base/model.py (start_multi_process_pool, _multi_process).
"""

from __future__ import annotations

import itertools
import math
import os
import queue
import shutil
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from biject.errors import BijectError, InputError
from biject.tasks.inputs import require

_LARGEST_CHUNK = 5000
_CHUNKS_A_PROCESS = 10
_POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class _Opening:
    """How a worker opens the model."""

    kind: Any
    """Its class, with `from_pretrained` and `encode`."""
    path: str
    device: str
    threads: int
    options: Mapping[str, Any]


class EncodingPool:
    """Processes that wait for texts.

    Args:
        kind: The model's class, with `from_pretrained` and `encode`.
        write: Puts the model into a folder that does not exist yet.
        devices: One process each.
        options: Of `EmbeddingModel.from_pretrained`, beside the folder and the device.
    """

    def __init__(self, kind: Any, write: Any, devices: Sequence[str], *, options: Mapping[str, Any]) -> None:
        require(bool(devices), "A pool needs at least one device, e.g. ['cpu', 'cpu'].")
        self._folder = Path(tempfile.mkdtemp(prefix="biject-pool-"))
        self._turn, self._calls = threading.Lock(), itertools.count()
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)  # a pool that nobody stops
        try:
            write(self._folder / "model")
            context = torch.multiprocessing.get_context("spawn")
            self._inputs, self._outputs = context.Queue(), context.Queue()
            share = sum(device == "cpu" for device in devices)
            threads = max(1, (os.cpu_count() or 1) // max(1, share))
            self.processes = []
            for device in devices:
                opening = _Opening(
                    kind=kind,
                    path=str(self._folder / "model"),
                    device=device,
                    threads=threads,
                    options=dict(options),
                )
                one = context.Process(target=_work, args=(opening, self._inputs, self._outputs), daemon=True)
                one.start()
                self.processes.append(one)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def __enter__(self) -> EncodingPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def encode(self, texts: Sequence[str], chunk_size: int | None, how: Mapping[str, Any]) -> Any:
        """Vectors of all texts in their order, (N, D), by `EmbeddingModel.encode` with these options.

        Raises:
            InputError: A number below 1; what a worker raises; a worker has died.
        """
        require(
            chunk_size is None or chunk_size >= 1, f"`chunk_size` must be at least 1; found {chunk_size}."
        )
        require(bool(self.processes), "This pool was stopped; start another one.")
        wanted = math.ceil(len(texts) / len(self.processes) / _CHUNKS_A_PROCESS)
        size = chunk_size or min(max(1, wanted), _LARGEST_CHUNK)
        chunks = [list(texts[at : at + size]) for at in range(0, len(texts), size)]
        done: dict[int, Any] = {}
        failed = ""
        with self._turn:  # threads that share a pool take turns
            call = next(self._calls)
            for place, chunk in enumerate(chunks):
                self._inputs.put(((call, place), chunk, dict(how)))
            while len(done) < len(chunks):
                (of, place), found, problem = self._next()
                if of == call:  # else of a call that was broken off
                    done[place], failed = found, failed or problem
        if failed:
            raise InputError(f"A process of the pool failed: {failed}")
        return torch.cat([torch.as_tensor(done[place]) for place in range(len(chunks))])

    def _next(self) -> tuple[tuple[int, int], Any, str]:
        while True:
            try:
                found: tuple[tuple[int, int], Any, str] = self._outputs.get(timeout=_POLL_SECONDS)
                return found
            except queue.Empty:
                dead = [one.pid for one in self.processes if not one.is_alive()]
                if dead:
                    self.stop()
                    raise InputError(
                        f"{len(dead)} processes of the pool ended unasked (pid {dead[0]}): was there memory "
                        "enough, and does the script guard its start with `if __name__ == '__main__':`?"
                    ) from None

    def stop(self) -> None:
        """End the processes and remove the folder."""
        for one in self.processes:
            one.terminate()
        for one in self.processes:
            one.join()
            one.close()
        self.processes = []
        self._inputs.cancel_join_thread()
        self._inputs.close()
        self._outputs.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _work(opening: _Opening, inputs: Any, outputs: Any) -> None:
    """A process: open the model, then answer until it is ended."""
    torch.set_num_threads(opening.threads)
    model = None
    while True:
        place, texts, how = inputs.get()
        try:
            if model is None:
                model = opening.kind.from_pretrained(opening.path, device=opening.device, **opening.options)
            outputs.put((place, model.encode(texts, **how), ""))
        except BijectError as error:
            outputs.put((place, None, str(error)))
        except Exception as error:  # whatever it is, the other side must not wait for ever
            outputs.put((place, None, f"{type(error).__name__}: {error}"))
