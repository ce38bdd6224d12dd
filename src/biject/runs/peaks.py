"""What a device can do at most: from its data sheet where it is known, else measured.

Published MFU (Chowdhery et al. 2022, arXiv:2204.02311, appendix B) is against the data sheet's figure for
dense products; a CPU's depends on its clock, and is measured.
"""

from __future__ import annotations

import time

import torch

_HALF = (torch.float16, torch.bfloat16)
_SHEETS: dict[str, tuple[float | None, float | None]] = {
    "B200": (2250.0, None),
    "H200": (989.0, 66.9),
    "H100 NVL": (835.0, None),
    "H100 PCIe": (756.0, 51.2),
    "H100": (989.0, 66.9),
    "A100": (312.0, 19.5),
    "A40": (149.7, 37.4),
    "A10": (125.0, 31.2),
    "L40S": (362.0, None),
    "L4": (121.0, 30.3),
    "RTX 4090": (None, 82.6),
    "RTX 3090": (None, 35.6),
}
"""TFLOP/s of dense products: 16 bits added up in float32, and float32 without TF32; what no source gives is
measured. The first name that a device's contains as words counts. Sources, which cite NVIDIA's data sheets:

* 16 bits of B200, H200, H100 (NVL, PCIe, SXM), A100, L40S: torchtitan, `torchtitan/tools/utils.py`,
  `get_peak_flops` (commit 02581674).
* H100 (PCIe, SXM; H200 has its processor) in float32, A100 in float32, L4, A10 and RTX in float32: Lightning,
  `lightning/fabric/utilities/throughput.py`, `_CUDA_FLOPS`. It gives the RTX cards' 16 bits without their
  tensor cores, so these are measured.
* A40: hmc-tech.com, "NVIDIA A100 vs NVIDIA A40" (149.67 with FP32 accumulate, 37.42).
"""
_REPEATS = 5
_SIZES = {"cpu": 1024, "cuda": 8192}


def sheet_peak(name: str, dtype: torch.dtype) -> float | None:
    """FLOPs a second by the data sheet; None for a device or a dtype that is not in the table."""
    words = f" {name.replace('-', ' ')} "
    found = next((peaks for known, peaks in _SHEETS.items() if f" {known} " in words), None)
    if found is None or dtype not in (*_HALF, torch.float32):
        return None
    if dtype is torch.float32 and torch.backends.cuda.matmul.allow_tf32:
        return None  # another unit computes then
    teraflops = found[0 if dtype in _HALF else 1]
    return None if teraflops is None else 1e12 * teraflops


def peak(device: torch.device, dtype: torch.dtype) -> tuple[float, str]:
    """FLOPs a second, and what of."""
    name = str(dtype).removeprefix("torch.")
    if device.type == "cuda":
        card = torch.cuda.get_device_name(device)
        known = sheet_peak(card, dtype)
        if known is not None:
            return known, f"{name}, data sheet of {card}"
    return gemm_peak(device, dtype), f"{name} products of matrices, measured"


def gemm_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs a second of the best of some large products; nothing random is drawn."""
    size = _SIZES.get(device.type, 1024)
    a = torch.full((size, size), 0.5, device=device, dtype=dtype)
    best = float("inf")
    with torch.no_grad():
        for _ in range(_REPEATS):
            _synchronize(device)
            began = time.perf_counter()
            torch.mm(a, a)
            _synchronize(device)
            best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
