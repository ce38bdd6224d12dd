"""`biject watch`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from biject.errors import InputError


def watch(
    *runs: Annotated[Path, Parameter(name="RUN")],
    host: Annotated[str, Parameter(metavar="ADDRESS")] = "127.0.0.1",
    port: Annotated[int, Parameter(metavar="N")] = 8266,
    write: Annotated[Path | None, Parameter(metavar="FILE")] = None,
) -> int:
    """Show runs live in a browser, several of them side by side; only this machine can see it.

    The pages are made from the runs' folders alone, so that a folder that another machine writes to (or a
    copy of it) is shown as well.

    Args:
        runs: Folders of runs, training or ended.
        host: Another address to listen at; requests then need the token that is printed.
        port: 0 for any that is free.
        write: Serve nothing: write the page as it is now to this file.
    """
    from biject.cli.console import print_lines

    if not runs:
        raise InputError("watch needs the folder of a run, or of several.")
    if not 0 <= port < 65536:
        raise InputError(f"--port: expected 0 to 65535, found {port}.")
    if write is not None:
        print_lines([_write(list(runs), write)])
        return 0
    return _serve(list(runs), host, port)


def _write(runs: list[Path], path: Path) -> str:
    from biject.pages.compare import compare_main
    from biject.pages.read import read_run
    from biject.pages.render import render_report, whole

    if os.path.lexists(path):
        raise InputError(f"--write {path} exists already: remove it, or choose another name.")
    if len(runs) == 1:
        page = render_report(runs[0])
    else:
        page = whole(f"{len(runs)} runs", compare_main([read_run(run) for run in runs]))
    path.write_text(page, encoding="utf-8")
    return f"REPORT {path}"


def _serve(runs: list[Path], host: str, port: int) -> int:
    import secrets
    import socket

    from biject.cli.console import print_lines
    from biject.errors import MissingExtraError
    from biject.pages.serve import LOOPBACK, NEEDS, Watched, make_app

    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError(NEEDS) from error
    here = host.lower() in LOOPBACK
    token = None if here else secrets.token_urlsafe(24)
    any_host = host in ("0.0.0.0", "::")
    app = make_app(Watched(runs), hosts=LOOPBACK if here else () if any_host else (host,), token=token)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # whoever asks from now on is answered, if a moment later
    except OSError as error:
        listener.close()
        raise InputError(
            f"{host} port {port} cannot be listened at: {error.strerror}. Choose another --port, or 0."
        ) from error
    shown = f"[{host}]" if ":" in host else socket.gethostname() if any_host else host
    query = "" if token is None else f"?token={token}"
    print_lines([f"WATCH http://{shown}:{listener.getsockname()[1]}/{query} (Ctrl-C ends it)"])
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, server_header=False)
    uvicorn.Server(config).run(sockets=[listener])
    return 0
