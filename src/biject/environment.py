"""Settings of the process that must be there before torch is loaded."""

from __future__ import annotations

import os
import sys


def prepare() -> None:
    """Ask OpenMP's waiting threads to sleep rather than spin, unless the user has set something else.

    With the default policy, two threads on a machine that others use too were seen to be 10 to 20 times
    slower than one: a thread that waits burns the core that another one needs. OpenMP reads `OMP_WAIT_POLICY`
    once, when torch loads it, so this has an effect only before the first `import torch`, and none later.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
