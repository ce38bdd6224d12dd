"""Progress of downloads as events: `huggingface_hub`'s own bars are not drawn."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from biject.events import progress

if TYPE_CHECKING:
    from huggingface_hub.utils.tqdm import tqdm

_BYTES = "huggingface_hub.snapshot_download"  # its bar of bytes written, over all files


def event_bars(label: str) -> type[tqdm]:
    """A class for `tqdm_class` that reports bytes to whoever listens in the calling thread."""
    from huggingface_hub.utils.tqdm import tqdm

    context = copy_context()  # downloads run in other threads, which do not inherit the listener

    class EventBar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.reports = options.get("name") == _BYTES
            super().__init__(*arguments, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            if self.reports:
                context.copy().run(progress, label, int(self.n), int(self.total or 0) or None, unit="bytes")
            return None

    return EventBar
