"""Trackers: a run's events for TensorBoard, trackio, Weights & Biases and MLflow, behind one interface.

`events.jsonl` is always written; these are copies. A tracker works in a thread of its own behind a queue: one
that fails or hangs neither stops nor slows the run.
"""

from __future__ import annotations

from biject.track.background import Background
from biject.track.base import End, Tracker, scalars
from biject.track.callback import Tracked
from biject.track.registry import NAMES, make_tracker

__all__ = ["NAMES", "Background", "End", "Tracked", "Tracker", "make_tracker", "scalars"]
