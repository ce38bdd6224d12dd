"""TensorBoard: event files in `RUN/tensorboard`; `tensorboard --logdir RUN` shows them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biject.track.base import End, Event, scalars, settings

if TYPE_CHECKING:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter


class TensorBoard:
    """Writes with the `tensorboard` package alone; values are float32, as TensorBoard keeps them."""

    def __init__(self, writer: EventFileWriter) -> None:
        self.writer = writer

    def on_event(self, event: Event) -> None:
        """Scalars, and the recipe as a text."""
        from tensorboard.compat.proto.event_pb2 import Event as Record
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        at = float(event.get("time") or time.time())
        first = int(event.get("from_step") or 0)
        if first:  # what was done after that checkpoint is done again
            log = SessionLog(status=SessionLog.START)
            self.writer.add_event(Record(wall_time=at, step=first + 1, session_log=log))
        if event.get("event") in ("start", "resume"):
            text = "\n".join(f"    {name} = {value}" for name, value in settings(event).items())
            self.writer.add_event(Record(wall_time=at, step=0, summary=_text("recipe", text)))
        found = scalars(event)
        if found is not None:
            step, values = found
            summary = Summary(value=[Summary.Value(tag=name, simple_value=v) for name, v in values.items()])
            self.writer.add_event(Record(wall_time=at, step=step, summary=summary))

    def close(self, *, ended: End = "finished") -> None:
        """To the disk."""
        del ended  # TensorBoard knows of no failed runs
        self.writer.close()


def _text(name: str, text: str) -> Any:
    from tensorboard.plugins.text.summary_v2 import text_pb

    return text_pb(name, text)


def make(folder: Path, run: str) -> TensorBoard:
    """A tracker that writes under the run's folder."""
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    del run  # TensorBoard names runs by their folders
    return TensorBoard(EventFileWriter(str(folder / "tensorboard")))
