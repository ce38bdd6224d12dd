"""Proof that an export is the model it claims to be: levels with a gate each, against transformers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biject.verify.adapter import verify_adapter
    from biject.verify.export import LEVELS, verify_export
    from biject.verify.matrix import MatrixResult, verify_matrix
    from biject.verify.report import Check, LevelResult, Report
    from biject.verify.trained import verify_trained

__all__ = [
    "LEVELS",
    "Check",
    "LevelResult",
    "MatrixResult",
    "Report",
    "verify_adapter",
    "verify_export",
    "verify_matrix",
    "verify_trained",
]

_HOME = {
    "LEVELS": "export",
    "verify_export": "export",
    "MatrixResult": "matrix",
    "verify_matrix": "matrix",
    "Check": "report",
    "LevelResult": "report",
    "Report": "report",
    "verify_adapter": "adapter",
    "verify_trained": "trained",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'biject.verify' has no attribute {name!r}; it has {', '.join(__all__)}")
    value: object = getattr(import_module(f"biject.verify.{_HOME[name]}"), name)
    globals()[name] = value
    return value
