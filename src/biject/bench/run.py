"""All cells of a benchmark, one after the other."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from biject.bench.decoders import FORMS, decoder_cells
from biject.bench.encoders import PEERS, encoder_cells
from biject.bench.measure import Limits, Measured
from biject.bench.sides import SHAPES
from biject.errors import InputError

GIVEN, BEST = PEERS[:1], PEERS[1:2]
ENCODERS: dict[str, dict[str, tuple[str, ...]]] = {
    "minilm": {"mixed": GIVEN, "snippets": PEERS[:2], "long-tailed": PEERS[:2], "equal": GIVEN},
    "bert-base": {"mixed": GIVEN, "snippets": BEST, "equal": GIVEN},
    "deberta-v3-base": {"mixed": GIVEN, "snippets": BEST, "equal": GIVEN},
    "modernbert-base": {"mixed": GIVEN},
}
"""Lengths of texts that a model is measured with, and beside whom."""
KINDS = tuple(ENCODERS["minilm"])
DECODERS = ("gpt2", "qwen2-0.5b")
QUICK = ("minilm", "gpt2")
QUICK_REPEATS, REPEATS = 2, 5
BATCHES = {"minilm": 4}
"""Of 16 texts for a measurement; of a larger model's one."""
NEW = 64
"""Tokens that decoding is measured over."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured.

    Attributes:
        quick: few shapes and runs, for about a minute on two cores; says little on a busy machine.
        threads: of torch, one after the other; what it takes by itself where empty.
        compiled: beside Hugging Face under torch.compile, too (compiling takes minutes).
        models: their names; all where empty.
        lengths: of encoders' texts; all where empty.

    Raises:
        InputError: a model or lengths that are not there, or no thread.
    """

    quick: bool = False
    threads: Sequence[int] = ()
    compiled: bool = False
    models: Sequence[str] = ()
    lengths: Sequence[str] = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.models) - set(SHAPES))
        if unknown:
            raise InputError(f"--model is one of {', '.join(SHAPES)}; found {', '.join(unknown)}.")
        strange = sorted(set(self.lengths) - set(KINDS))
        if strange:
            raise InputError(f"--lengths is one of {', '.join(KINDS)}; found {', '.join(strange)}.")
        if any(count < 1 for count in self.threads):
            raise InputError(f"--threads is 1 or more; found {min(self.threads)}.")

    def takes(self, names: Sequence[str]) -> list[str]:
        """Those of some models that are measured."""
        return [name for name in names if name in (self.models or (QUICK if self.quick else SHAPES))]


class Bench:
    """A run of a plan; `machine` is complete when all cells were measured."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.limits: dict[int, Limits] = {}

    def cells(self) -> Iterator[Measured]:
        """Measured one by one."""
        before = torch.get_num_threads()
        try:
            for count in self.plan.threads or (before,):
                torch.set_num_threads(count)
                limits = self.limits.setdefault(count, Limits(self.device))
                yield from self._encoders(limits)
                yield from self._decoders(limits)
        finally:
            torch.set_num_threads(before)

    def _encoders(self, limits: Limits) -> Iterator[Measured]:
        plan = self.plan
        repeats = QUICK_REPEATS if plan.quick else REPEATS
        for shape in plan.takes(tuple(ENCODERS)):
            batches = 2 if plan.quick else BATCHES.get(shape, 1)
            for dtype in ("float32",) if plan.quick else ("float32", "bfloat16"):
                for kind, peers in ENCODERS[shape].items():
                    if kind not in (plan.lengths or (("snippets",) if plan.quick else KINDS)):
                        continue
                    few = kind in ("equal", "long-tailed")
                    yield from encoder_cells(
                        shape, dtype, kind,
                        peers=peers + (PEERS[2:] if plan.compiled else ()),
                        batches=1 if few else batches, repeats=repeats, limits=limits,
                    )  # fmt: skip

    def _decoders(self, limits: Limits) -> Iterator[Measured]:
        plan = self.plan
        for shape in plan.takes(DECODERS):
            for dtype in ("bfloat16",) if plan.quick else ("float32", "bfloat16"):
                forms = tuple(FORMS) if dtype == "bfloat16" else ("exact", "fast")
                yield from decoder_cells(
                    shape, dtype,
                    forms=forms if self.device.type == "cpu" else ("exact",),
                    new=16 if plan.quick else NEW,
                    repeats=QUICK_REPEATS if plan.quick else REPEATS, limits=limits,
                )  # fmt: skip

    def machine(self) -> dict[str, Any]:
        """What the figures hold for; limits by the number of threads."""
        return {
            "date": datetime.now(UTC).date().isoformat(),
            "processor": torch.cuda.get_device_name() if self.device.type == "cuda" else _processor(),
            "cores": os.cpu_count(),
            "torch": str(torch.__version__),
            "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
            "gemm_flops": {str(count): dict(limits.flops) for count, limits in self.limits.items()},
            "bytes_per_second": {str(n): limits.bytes_per_second for n, limits in self.limits.items()},
        }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        named = []
    return f"{named[0] if named else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
