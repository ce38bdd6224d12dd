"""A tracker in a thread of its own: the run puts events into a queue and goes on."""

from __future__ import annotations

import inspect
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from biject.events import notice
from biject.track.base import End, Tracker

MOST_WAITING = 10_000
"""Events; a tracker that is so far behind loses those that come then."""
PATIENCE_SECONDS = 10.0
"""How long the end of a run waits for a tracker."""


class Background:
    """Makes a tracker in its thread, and gives it events there; one that it cannot take is passed over.

    Args:
        name: For messages.
        make: Makes the tracker; may be slow, and may fail.
        patience: Seconds that `close` waits.
    """

    def __init__(self, name: str, make: Callable[[], Tracker], *, patience: float = PATIENCE_SECONDS) -> None:
        self.name, self.patience = name, patience
        self.lost = 0
        self.problem: str | None = None
        self._queue: queue.Queue[Mapping[str, Any] | End] = queue.Queue(MOST_WAITING)
        self._make = make
        self.refused = 0
        self._first_refusal = ""
        self._told: set[str] = set()
        self._thread = threading.Thread(target=self._work, name=f"biject-{name}", daemon=True)
        self._thread.start()

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Hand an event over; returns at once."""
        self._report()
        if self.problem is not None:
            return
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self.lost += 1

    def close(self, *, ended: End = "finished") -> None:
        """Wait a while for what is still to be written; `ended` is how the run did."""
        if self.problem is None:
            try:
                self._queue.put(ended, timeout=self.patience)
                self._thread.join(self.patience)
            except queue.Full:
                pass
            if self._thread.is_alive():
                self.problem = f"it did not finish within {self.patience:g} s"
        self._report()
        if self.lost:
            self._tell("tracker-behind", f"{self.name} was too slow: it lacks {self.lost} events")

    def _report(self) -> None:
        """Notices are for the run's own thread, each once."""
        if self.refused:
            self._tell("tracker-refused", f"{self.name} lacks what it cannot take: {self._first_refusal}")
        if self.problem is not None:
            self._tell("tracker-failed", f"{self.name} is left out: {self.problem}")

    def _tell(self, code: str, message: str) -> None:
        if code not in self._told:
            self._told.add(code)
            notice(code, f"{message}; {_ALL_THERE}")

    def _work(self) -> None:
        try:
            tracker = self._make()
            while not isinstance(event := self._queue.get(), str):
                self._give(tracker, event)
            _close(tracker, event)
        except BaseException as error:  # a library's exit or interrupt must not be the run's
            self.problem = _in_words(error)

    def _give(self, tracker: Tracker, event: Mapping[str, Any]) -> None:
        """One event; those behind it are given even if the tracker cannot take it."""
        try:
            tracker.on_event(event)
        except Exception as error:
            self._first_refusal = self._first_refusal or _in_words(error)
            self.refused += 1


def _close(tracker: Tracker, ended: End) -> None:
    """Somebody's own tracker need not want to know how the run ended."""
    if "ended" in inspect.signature(tracker.close).parameters:
        tracker.close(ended=ended)
    else:
        tracker.close()


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


_ALL_THERE = "events.jsonl has everything"
