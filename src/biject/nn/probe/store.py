"""Measured answers, in memory and in one small file per machine, torch and thread count.

The file is a convenience: it is measured anew where it is missing, damaged or cannot be written.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

VERSION = 5
_SWITCHES = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_DYNAMIC",
    "ONEDNN_MAX_CPU_ISA",
)
"""Environment variables that choose other kernels."""


def folder() -> Path:
    """Where the answers are kept: `BIJECT_CACHE`, or `biject` in the user's cache folder."""
    given = os.environ.get("BIJECT_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "biject"


def conditions() -> dict[str, str]:
    """Everything that the answers hold under."""
    return {
        "version": str(VERSION),
        "torch": str(torch.__version__),
        "capability": str(torch.backends.cpu.get_cpu_capability()),
        "cpu": _cpu(),
        "threads": str(torch.get_num_threads()),
        "matmul": torch.get_float32_matmul_precision(),
        "onednn": str(torch.backends.mkldnn.enabled),
        "sdp": str([torch._C._get_flash_sdp_enabled(), torch._C._get_math_sdp_enabled()]),
        **{name: os.environ[name] for name in _SWITCHES if name in os.environ},
    }


@contextmanager
def plainly() -> Iterator[None]:
    """Measure on the CPU and in the dtypes that are requested, whatever the caller's contexts say."""
    with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.device("cpu"):
        yield


def recall(question: str) -> Any:
    """The answer to a question, or None where it was not measured yet."""
    return _answers(key()).get(question)


def measured() -> dict[str, Any]:
    """For reports: what is known of this machine's kernels by now, and what that holds under.

    A linear's answers are how many neighbouring row counts agree, of how many.
    """
    answers = {
        question: answer if isinstance(answer, bool) else f"{sum(answer)} of {len(answer)}"
        for question, answer in sorted(_answers(key()).items())
    }
    return {"conditions": conditions(), "answers": answers}


def remember(question: str, answer: Any) -> None:
    """Keep an answer (JSON values)."""
    answers = _answers(key())
    answers[question] = answer
    text = json.dumps({"conditions": conditions(), "answers": answers}, indent=1, sort_keys=True)
    try:
        path = _path(key())
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(text)
        Path(file.name).replace(path)
    except (OSError, RuntimeError):  # the second: there is no home folder
        return


def forget() -> None:
    """Drop what this process has read and measured; files stay."""
    _answers.cache_clear()


def key() -> str:
    """Stands for everything that the answers hold under."""
    return _digest(tuple(sorted(conditions().items())))


@functools.lru_cache(maxsize=64)
def _digest(found: tuple[tuple[str, str], ...]) -> str:
    text = json.dumps(dict(found), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _path(key: str) -> Path:
    return folder() / f"probe-{key}.json"


@functools.cache
def _answers(key: str) -> dict[str, Any]:
    try:
        found = json.loads(_path(key).read_text(encoding="utf-8"))
        answers = found["answers"] if found["conditions"] == conditions() else {}
        return {question: answer for question, answer in answers.items() if _is_answer(answer)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        return {}


def _is_answer(answer: object) -> bool:
    return isinstance(answer, bool) or (
        isinstance(answer, list) and all(isinstance(part, bool) for part in answer)
    )


@functools.cache
def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
