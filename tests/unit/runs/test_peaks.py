"""What devices can do: the table by names, and a measurement."""

from __future__ import annotations

import pytest
import torch

from biject.runs import peaks
from biject.runs.peaks import gemm_peak, peak, sheet_peak


@pytest.mark.parametrize(
    ("name", "dtype", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", torch.bfloat16, 989.0),
        ("NVIDIA H100 NVL", torch.bfloat16, 835.0),
        ("NVIDIA H100 NVL", torch.float32, None),
        ("NVIDIA GeForce RTX 4090", torch.bfloat16, None),
        ("NVIDIA H100 PCIe", torch.bfloat16, 756.0),
        ("NVIDIA A100-SXM4-80GB", torch.float16, 312.0),
        ("NVIDIA A100-SXM4-80GB", torch.float32, 19.5),
        ("NVIDIA L4", torch.bfloat16, 121.0),
        ("NVIDIA L40S", torch.bfloat16, 362.0),
        ("NVIDIA GeForce RTX 4090", torch.float32, 82.6),
        ("NVIDIA A1000", torch.float32, None),
        ("NVIDIA A100-SXM4-80GB", torch.float64, None),
    ],
)
def test_by_name(name: str, dtype: torch.dtype, teraflops: float | None) -> None:
    """Whole words only: an A1000 is no A10, an L40S no L4."""
    assert sheet_peak(name, dtype) == (None if teraflops is None else teraflops * 1e12)


def test_tf32_is_another_unit() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        assert sheet_peak("NVIDIA H100", torch.float32) is None
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def test_a_cpu_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as slow products are half the peak."""
    monkeypatch.setattr(peaks, "_SIZES", {"cpu": 256})
    found, of = peak(torch.device("cpu"), torch.float32)
    assert of == "float32 products of matrices, measured"
    assert 1e8 < found < 1e14
    clock = iter(range(100))
    monkeypatch.setattr(peaks.time, "perf_counter", lambda: next(clock) * 2.0)
    assert gemm_peak(torch.device("cpu"), torch.float32) == 2 * 256**3 / 2.0
