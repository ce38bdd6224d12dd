"""`verify_backends`: parity tier by tier, from single products up to logits of LoRA and QLoRA.

Where the last tier differs, the first one that does names the culprit: a product, a bias, codes, a loss.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from biject.errors import MissingExtraError
from biject.verify.backends.codes import quantised_codes
from biject.verify.backends.logits import lora_logits, qlora_logits
from biject.verify.backends.losses import shared_logits
from biject.verify.backends.products import linears, matmul
from biject.verify.machine import environment
from biject.verify.report import Check, LevelResult, Report, level_result

TIERS: dict[str, Callable[[Path], list[Check]]] = {
    "matmul": matmul,
    "linear": linears,
    "codes": quantised_codes,
    "cross-entropy": shared_logits,
    "lora": lora_logits,
    "qlora": qlora_logits,
}
"""Each is given an empty folder."""
NOT_CHECKED = (
    "other devices and dtypes than float32 on the CPU, and sizes other than those above",
    "training steps of adapters (`biject finetune` proves its own result)",
)


def verify_backends() -> Report:
    """Hold what Biject computes with against torch, transformers, bitsandbytes and PEFT, on this machine."""
    with tempfile.TemporaryDirectory(prefix="biject-backends-") as folder:
        levels = tuple(_tier(name, Path(folder) / name) for name in TIERS)
    return Report(
        folder="backends",
        source=None,
        levels=levels,
        environment=environment(dtype=torch.float32),
        not_checked=NOT_CHECKED,
    )


def _tier(name: str, folder: Path) -> LevelResult:
    """One tier; skipped for a stated reason where what it is compared with is not installed."""
    folder.mkdir()
    started = time.perf_counter()
    try:
        with torch.random.fork_rng(devices=[]):
            checks = TIERS[name](folder)
    except MissingExtraError as error:
        return LevelResult(name=name, status="skipped", reason=str(error))
    return level_result(name, checks, seconds=time.perf_counter() - started)
