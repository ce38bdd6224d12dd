"""All cells of a benchmark, one after the other."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import torch

from biject.bench.decoders import FORMS, decoder_cells
from biject.bench.encoders import PEERS, encoder_cells
from biject.bench.measure import Measured, bandwidth
from biject.runs.peaks import peak

QUICK_REPEATS, REPEATS = 2, 5


def cells(*, quick: bool, threads: int | None = None, compiled: bool = False) -> Iterator[Measured]:
    """Measured one by one.

    Args:
        quick: few shapes and runs, cut for about two minutes on two cores; says little on a busy machine.
        threads: of torch; as many as it takes by itself where left out.
        compiled: beside Hugging Face under torch.compile, too (compiling takes minutes).
    """
    if threads is not None:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    repeats = QUICK_REPEATS if quick else REPEATS
    peers = PEERS if compiled else PEERS[:2]
    shapes = ("minilm",) if quick else ("minilm", "bert-base", "deberta-v3-base")
    dtypes = ("float32",) if quick else ("float32", "bfloat16")
    for shape in shapes:
        for dtype in dtypes:
            for kind in ("snippets",) if quick else ("snippets", "long-tailed"):
                yield from encoder_cells(
                    shape, dtype, kind,
                    peers=peers, batches=2 if quick else 4, repeats=repeats, device=device,
                )  # fmt: skip
    forms = tuple(FORMS) if device == "cpu" else ("exact",)
    for shape in ("gpt2",) if quick else ("gpt2", "qwen2-0.5b"):
        for dtype in ("bfloat16",) if quick else ("float32", "bfloat16"):
            new = 16 if quick else 32
            yield from decoder_cells(shape, dtype, forms=forms, new=new, repeats=repeats, device=device)


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gemm = {
        str(dtype).removeprefix("torch."): peak(device, dtype)[0] for dtype in (torch.float32, torch.bfloat16)
    }
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": torch.cuda.get_device_name() if device.type == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "torch": str(torch.__version__),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "gemm_flops": gemm,
        "bytes_per_second": bandwidth(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        named = []
    return f"{named[0] if named else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
