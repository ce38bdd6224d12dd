"""A run's folder as data: its events, recipe, proof and insights. Whatever the files hold, reading is safe.

Nothing of a folder is trusted: values are used where they are what they should be, and passed over elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biject.errors import InputError
from biject.pages.words import number

EVENTS, VERIFY, INSIGHTS, MERGE = "events.jsonl", "verify.json", "insights.json", "merge_receipt.json"
_MOST_BYTES = 64 << 20
"""Of a JSON file; events may be longer, and are read piece by piece."""
_PIECE = 8 << 20


@dataclass
class Run:
    """What is known of a run so far; `refresh` reads what was added since.

    Attributes:
        folder: Where it is.
        steps: By number: the last time that a step was done.
        evaluations: The same.
        checkpoints: Steps that have, or had, a checkpoint.
        start: The newest `start` or `resume` event's values over older ones.
        end: How it ended, None where it goes on (or was killed).
        interrupted: The last event is an interruption.
        others: Other events by kind, in order.
    """

    folder: Path
    steps: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    evaluations: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    checkpoints: list[int] = field(default_factory=list)
    start: dict[str, Any] = field(default_factory=dict)
    end: Mapping[str, Any] | None = None
    interrupted: Mapping[str, Any] | None = None
    last_time: float | None = None
    others: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    _offset: int = 0
    _rest: bytes = b""

    def refresh(self) -> bool:
        """Read what was added to the events; whether there was anything. What cannot be read may be later."""
        try:
            return self._read_on(self.folder / EVENTS)
        except OSError:
            return False

    def _read_on(self, path: Path) -> bool:
        if not path.is_file():  # a pipe would be waited for, a device read for ever
            return False
        size = path.stat().st_size
        if size < self._offset:  # another run in the same place
            vars(self).update(vars(Run(self.folder)))
        changed = False
        with path.open("rb") as stream:
            stream.seek(self._offset)
            while piece := stream.read(_PIECE):
                self._offset += len(piece)
                *lines, self._rest = (self._rest + piece).split(b"\n")
                for line in lines:
                    changed = self._take(line) or changed
                if len(self._rest) > _PIECE:  # a line without an end
                    self._rest = b""
        return changed

    def _take(self, line: bytes) -> bool:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return False
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            return False
        kind, step = event["event"], _step(event.get("step"))
        self.last_time = number(event.get("time")) or self.last_time
        if kind == "step" and step is not None:
            self.steps[step] = event
            self.end = self.interrupted = None
        elif kind == "evaluation" and step is not None:
            self.evaluations[step] = event
        elif kind == "checkpoint" and step is not None:
            self.checkpoints.append(step)
        elif kind in ("start", "resume", "setup"):
            self.start |= {name: value for name, value in event.items() if name not in ("event", "time")}
            self.start.setdefault("began", number(event.get("time")))
            self.end = self.interrupted = None
        elif kind == "end":
            self.end = event
        elif kind == "interrupted":
            self.interrupted = event
        else:
            self.others.setdefault(kind, []).append(event)
        return True

    def ordered(self, which: Mapping[int, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Steps or evaluations in their order."""
        return [which[step] for step in sorted(which)]

    @property
    def recipe(self) -> dict[str, Any]:
        """Its settings, as the run wrote them down."""
        found = self.start.get("recipe")
        return found if isinstance(found, dict) else {}

    def document(self, name: str) -> dict[str, Any]:
        """One of the folder's JSON files; empty where it is missing, damaged or no regular file."""
        path = self.folder / name
        try:
            if not path.is_file() or path.stat().st_size > _MOST_BYTES:
                return {}
            value = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


def read_run(folder: Path) -> Run:
    """All there is.

    Raises:
        InputError: The folder is no run's.
    """
    run = Run(folder)
    if not (folder / EVENTS).is_file():
        raise InputError(f"{folder} is no run's folder: it has no {EVENTS}. Name the --out of a finetune.")
    run.refresh()
    return run


def _step(value: Any) -> int | None:
    found = number(value)
    return int(found) if found is not None and 0 <= found < 1 << 53 else None
