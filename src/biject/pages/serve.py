"""The live page: runs' pages on this machine, sent anew when their folders grow (server-sent events).

Nothing but the pages is served, and only to requests for the address that the server was started with: a page
of somebody else cannot ask for it under another name. Beyond this machine every request needs a token.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from biject.errors import MissingExtraError
from biject.pages.compare import compare_main
from biject.pages.read import Run, read_run
from biject.pages.render import main_of, whole

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

LOOPBACK = ("127.0.0.1", "localhost", "::1")
NEEDS = "The live page needs Starlette and uvicorn: pip install 'biject[watch]'"
EVERY_SECONDS = 1.0
"""Between two looks at the folders."""
_ALIVE_SECONDS = 15.0
_MOST_DIGITS = 9
"""Of a run's number."""
_COOKIE = "biject_token"
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Watched:
    """Runs, and their pages as they are now.

    Raises:
        InputError: A folder is no run's.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.runs = [read_run(folder) for folder in folders]
        self.version = 0
        self._lock = threading.Lock()
        self._made: dict[int | None, tuple[int, str]] = {}
        self.main(None)  # what is opened first is there when the address is

    def refresh(self) -> None:
        """Read what was added to any of the folders."""
        with self._lock:
            grown = [run.refresh() for run in self.runs]
            self.version += any(grown)

    def main(self, number: int | None) -> str:
        """The main part: of one run, or of all side by side."""
        runs = self._chosen(number)
        with self._lock:
            version, text = self._made.get(number, (-1, ""))
            if version != self.version:
                alone = len(runs) == 1
                several = len(self.runs) > 1
                text = main_of(runs[0], back=several) if alone else compare_main(runs, linked=True)
                self._made[number] = (self.version, text)
            return text

    def shown(self, number: int | None) -> int:
        """The version that `page` gave last."""
        return self._made.get(number, (self.version, ""))[0]

    def page(self, number: int | None) -> str:
        """The whole page, as it was made last: for a long run that takes seconds. What is newer follows."""
        runs = self._chosen(number)
        title = runs[0].folder.name if len(runs) == 1 else f"{len(runs)} runs"
        live = "/events" if number is None else f"/events?run={number}"
        made = self._made.get(number)
        return whole(title, self.main(number) if made is None else made[1], live=live)

    def _chosen(self, number: int | None) -> list[Run]:
        return self.runs if number is None else [self.runs[number]]


def make_app(watched: Watched, *, hosts: Sequence[str] = LOOPBACK, token: str | None = None) -> Starlette:
    """The application.

    Args:
        watched: The runs.
        hosts: Names that requests may be for, in any case; none for any, which needs a token.
        token: What requests have to bring, in the address once, then as a cookie.

    Raises:
        MissingExtraError: Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, StreamingResponse
        from starlette.routing import Route
    except ImportError as error:
        raise MissingExtraError(
            "The live page needs Starlette and uvicorn: pip install 'biject[watch]'"
        ) from error

    names = {name.lower() for name in hosts}

    def refused(request: Request) -> Response | None:
        if names and _name_of(request.headers.get("host", "")) not in names:
            return PlainTextResponse("This server is not for that name.", 403)
        if token is None or _equal(request.cookies.get(_COOKIE), token):
            return None
        if _equal(request.query_params.get("token"), token):
            answer = RedirectResponse(request.url.path, 303)  # the token leaves the address
            answer.set_cookie(_COOKIE, token, httponly=True, samesite="strict")
            return answer
        return PlainTextResponse("This page needs the token of its address.", 403)

    def number_of(text: str | None) -> int | None:
        if text is None or not text.isdecimal() or len(text) > _MOST_DIGITS:
            return None
        return int(text) if int(text) < len(watched.runs) else None

    async def page(request: Request) -> Response:
        given = request.path_params.get("number")
        number = number_of(given)
        if given is not None and number is None:
            return refused(request) or PlainTextResponse("There is no such run.", 404)
        return refused(request) or HTMLResponse(
            await asyncio.to_thread(watched.page, number), headers=_HEADERS
        )

    async def events(request: Request) -> Response:
        answer = refused(request)
        if answer is None:
            stream = _changes(watched, number_of(request.query_params.get("run")), request)
            answer = StreamingResponse(stream, media_type="text/event-stream", headers=_HEADERS)
        return answer

    return Starlette(routes=[Route("/", page), Route("/run/{number}", page), Route("/events", events)])


async def _changes(watched: Watched, number: int | None, request: Any) -> AsyncIterator[str]:
    """A message for each state of the runs, not more often than it can be made."""
    seen, spoken = watched.shown(number), time.monotonic()
    pause = 0.0  # a page that was made earlier is brought up to date
    while not await request.is_disconnected():
        await asyncio.sleep(pause)
        began = time.monotonic()
        await asyncio.to_thread(watched.refresh)
        pause = max(pause, EVERY_SECONDS)
        if watched.version != seen:
            seen = watched.version
            main = await asyncio.to_thread(watched.main, number)
            spoken = time.monotonic()
            pause = max(EVERY_SECONDS, 5 * (spoken - began))
            yield f"event: main\ndata: {json.dumps(main)}\n\n"
        elif time.monotonic() - spoken > _ALIVE_SECONDS:
            spoken = time.monotonic()
            yield ": still here\n\n"


def _name_of(host: str) -> str:
    """The name that a request is for, in lower case and without its port; empty for what is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # `[`
        return ""


def _equal(given: str | None, token: str) -> bool:
    return given is not None and secrets.compare_digest(given.encode(), token.encode())
