"""`StopRequest`: how a signal, a callback or another thread ends a run at its next step boundary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from biject.train import ranks


class StopRequest:
    """A wish to stop; the trainer looks at it after every step, when the run's state is whole.

    Attributes:
        reason: Why, e.g. `SIGTERM`; None as long as nobody asked. It can be read until the next run begins.
        can_wait: Whether a trainer is stepping, so that it will see the request soon.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.can_wait = False
        self._of_earlier = False
        """The reason is one that a run has ended with, and nothing to the next one."""

    def request(self, reason: str) -> None:
        """Stop after this step; where no run has begun yet, after the first step of the next."""
        if self.reason is None or self._of_earlier:
            self.reason, self._of_earlier = reason, False

    def agreed(self, wishes: float) -> bool:
        """Whether any process was asked; all processes get the same answer.

        Args:
            wishes: how many said so in the exchange of the last step: asking once more would cost another
                one, so that several processes stop one step after a request that comes between steps.
        """
        return self.reason is not None if ranks.count() == 1 else wishes > 0

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """While the block runs, a request is seen after the current step; earlier blocks' are over."""
        if self._of_earlier:
            self.reason, self._of_earlier = None, False
        self.can_wait = True
        try:
            yield
        finally:
            self.can_wait = False
            self._of_earlier = self.reason is not None
