"""Functions that `torch.compile` leaves alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from torch._compile import _disable_dynamo

P = ParamSpec("P")
R = TypeVar("R")


def left_alone(function: Callable[P, R]) -> Callable[P, R]:
    """Have a compiled caller run this function as it is, and what it calls as well.

    As `torch.compiler.disable`, which would load the compiler (a second) where nobody compiles.
    """
    apart: Callable[P, R] = _disable_dynamo(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return (apart if "torch._dynamo" in sys.modules else function)(*args, **kwargs)

    return call
