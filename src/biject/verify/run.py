"""Run one level: the comparisons by name, the time they take, an error on the way as a failed level."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from biject.errors import BijectError
from biject.verify.levels.bytes import bytes_
from biject.verify.levels.forward import forward
from biject.verify.levels.gradients import gradients
from biject.verify.levels.hf_forward import hf_forward
from biject.verify.levels.lint import lint_
from biject.verify.levels.names import names
from biject.verify.levels.reload import reload
from biject.verify.levels.steps import steps
from biject.verify.levels.tokenizer import tokenizer
from biject.verify.levels.variants import variants
from biject.verify.report import Check, LevelResult, NotApplicable, NothingToCompare, level_result
from biject.verify.subject import Subject

Level = Callable[[Subject], list[Check]]

COMPARISONS: Mapping[str, Level] = MappingProxyType(
    {
        "names": names,
        "bytes": bytes_,
        "reload": reload,
        "hf-forward": hf_forward,
        "forward": forward,
        "gradients": gradients,
        "variants": variants,
        "steps": steps,
        "tokenizer": tokenizer,
        "lint": lint_,
    }
)
"""Every level but `faults`, which runs these on damaged copies."""
NEED_SOURCE = frozenset({"names", "bytes", "hf-forward"})


def run_level(name: str, subject: Subject, *, levels: Mapping[str, Level] = COMPARISONS) -> LevelResult:
    """One level; an error on the way is a failed level with its message."""
    if name in NEED_SOURCE and subject.source is None:
        return LevelResult(name=name, status="skipped", reason="needs --source")
    started = time.perf_counter()
    try:
        checks = levels[name](subject)
    except NotApplicable as nothing:
        return LevelResult(name=name, status="n/a", reason=str(nothing))
    except NothingToCompare as nothing:
        return LevelResult(name=name, status="skipped", reason=str(nothing))
    except Exception as error:
        reason = str(error) if isinstance(error, BijectError) else f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - started
        return LevelResult(name=name, status="fail", reason=reason, seconds=seconds)
    return level_result(name, checks, seconds=time.perf_counter() - started)
