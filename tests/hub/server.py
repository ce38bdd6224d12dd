"""A server on 127.0.0.1 that answers as the Hub does, as far as downloads go, and can misbehave on request.

Routes and headers are those of huggingface.co as `huggingface_hub` 2.4 uses them: `/api/models/…`, its
`tree`, and `resolve`, where large files redirect to another host (here `localhost`) that gets no token.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".h5", ".onnx", ".msgpack")
"""Files that the Hub keeps in large-file storage."""


@dataclass
class Fault:
    """How one file's body misbehaves, the first `times` times that it is asked for."""

    kind: str  # cut: the connection ends early; short, long: another length; damage: another byte; status
    times: int = 1
    after: int = 0  # bytes that a cut lets through
    status: int = 503


@dataclass
class Repo:
    """A repository with commits; `refs` are branches and tags."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    allowed: tuple[str, ...] = ()  # tokens with access
    faults: dict[str, Fault] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], *, ref: str = "main") -> str:
        """Store a new commit and move `ref` to it."""
        text = repr(sorted((name, hashlib.sha256(data).hexdigest()) for name, data in files.items()))
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.refs[ref] = sha
        return sha


@dataclass(frozen=True)
class Request:
    """One request, as it came."""

    method: str
    path: str
    token: str | None
    range: str | None


class HubServer:
    """Repositories by name, tokens that are known, and a record of what was asked."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.tokens: set[str] = {"hf_good"}
        self.requests: list[Request] = []
        self.page_size = 1000
        self.down = False  # every request is answered with 503
        self.stored: dict[str, bytes] = {}  # large files that arrived, by sha256
        self.messages: list[str] = []  # of commits
        self.refused_stores = 0  # large files that are refused before one is taken
        self.request_type = Request
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT should be."""
        return f"http://127.0.0.1:{self.port}"

    def add(self, name: str, files: dict[str, bytes] | Path, **options: Any) -> Repo:
        """A repository with one commit; a folder's files are read."""
        repo = self.repos[name] = Repo(**options)
        repo.commit(folder_files(files) if isinstance(files, Path) else files)
        return repo

    def bodies(self) -> list[str]:
        """Names of the files whose content was asked for, in order."""
        return [r.path.rsplit("/", 1)[-1] for r in self.requests if r.method == "GET" and self._is_body(r)]

    def _is_body(self, request: Request) -> bool:
        return "/cdn/" in request.path or "/resolve/" in request.path

    @contextmanager
    def running(self) -> Iterator[HubServer]:
        """Serve in a thread."""
        self._thread.start()
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


def folder_files(folder: Path) -> dict[str, bytes]:
    """A folder as a commit's files."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def blob_id(data: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Answered(Exception):
    """An error was sent; nothing more is to do."""


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        server_state = hub

    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: HubServer

    def log_message(self, *arguments: object) -> None:
        """Silence."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._take()

    def do_PUT(self) -> None:
        self._take()

    def _take(self) -> None:
        from .uploads import answer

        with suppress(_Answered):
            answer(self)

    def _answer(self) -> None:
        hub, given = self.server_state, self.headers.get("Authorization")
        self.token = given.removeprefix("Bearer ") if given else None
        url = urlsplit(self.path)
        path = unquote(url.path)
        hub.requests.append(Request(self.command, path, self.token, self.headers.get("Range")))
        try:
            if hub.down:
                self._error(503, "", "The Hub is down")
            if path.startswith("/cdn/"):
                self._cdn(path)
            elif path.startswith("/api/models/"):
                self._api(path.removeprefix("/api/models/"), self.path.split("?")[0], parse_qs(url.query))
            else:
                self._resolve(path.removeprefix("/"))
        except _Answered:
            pass
        except ConnectionError:  # the client has gone
            self.close_connection = True

    def _api(self, rest: str, raw: str, query: dict[str, list[str]]) -> None:
        name, kind, revision = rest, "revision", "main"
        for word in ("revision", "tree"):
            if f"/{word}/" in rest:
                name, revision = rest.split(f"/{word}/", 1)
                kind = word
        repo = self._repo(name)
        sha = self._sha(repo, revision)
        files = repo.commits[sha]
        if kind == "revision":
            siblings = [{"rfilename": file} for file in files]
            facts = {"id": name, "modelId": name, "sha": sha, "siblings": siblings, "private": repo.private}
            self._json({**facts, "gated": "auto" if repo.gated else False, "tags": [], "downloads": 0})
            return
        start = int(query.get("cursor", ["0"])[0])
        names, headers = list(files), {}
        if start + self.server_state.page_size < len(names):
            start_next = start + self.server_state.page_size
            headers["Link"] = f'<{self.server_state.endpoint}{raw}?cursor={start_next}>; rel="next"'
        page = names[start : start + self.server_state.page_size]
        self._json([_tree_entry(file, files[file]) for file in page], headers)

    def _resolve(self, path: str) -> None:
        name, _, rest = path.partition("/resolve/")
        repo = self._repo(name)
        revision = next((r for r in (*repo.refs, *repo.commits) if rest.startswith(f"{r}/")), "")
        sha = self._sha(repo, revision or rest.split("/")[0])
        if repo.gated and self.token not in repo.allowed:
            status = 401 if self.token is None else 403
            self._error(status, "GatedRepo", f"Access to model {name} is restricted.")
        file = rest[len(revision) + 1 :]
        data = repo.commits[sha].get(file)
        if data is None:
            self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": sha})
        assert data is not None
        headers = {"X-Repo-Commit": sha, "ETag": f'"{blob_id(data)}"'}
        if file.endswith(LARGE):
            digest = hashlib.sha256(data).hexdigest()
            place = (
                f"http://localhost:{self.server_state.port}/cdn/{digest}/{quote(name, safe='')}/{quote(file)}"
            )
            headers |= {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{digest}"', "Location": place}
            self._send(302, b"", headers)
        else:
            self._body(data, headers, repo.faults.get(file))

    def _cdn(self, path: str) -> None:
        digest, rest = path.removeprefix("/cdn/").split("/", 1)
        name = next(name for name in self.server_state.repos if rest.startswith(f"{name}/"))
        repo, file = self.server_state.repos[name], rest[len(name) + 1 :]
        found = [
            c[file] for c in repo.commits.values() if hashlib.sha256(c.get(file, b"")).hexdigest() == digest
        ]
        self._body(found[0], {"ETag": f'"{digest}"'}, repo.faults.get(file))

    def _body(self, data: bytes, headers: dict[str, str], fault: Fault | None) -> None:
        """The bytes from the range asked for; a fault applies to bodies, not to HEAD."""
        start, status = 0, 200
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            start, status = int(wanted.removeprefix("bytes=").split("-")[0]), 206
            headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        part = data[start:]
        if fault is None or fault.times <= 0 or self.command == "HEAD":
            self._send(status, part, headers)
            return
        fault.times -= 1
        if fault.kind == "status":
            self._error(fault.status, "", "Something is wrong")
        if fault.kind == "damage":
            self._send(status, part[:-1] + bytes([part[-1] ^ 1]), headers)
            return
        if fault.kind in ("short", "long"):
            self._send(status, part[:-3] if fault.kind == "short" else part + b"???", headers)
            return
        self._send(status, part[: fault.after], {**headers, "Content-Length": str(len(part))})
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)

    def _repo(self, name: str) -> Repo:
        repo = self.server_state.repos.get(name)
        if self.token is not None and self.token not in self.server_state.tokens:
            self._error(401, "", "Invalid credentials in Authorization header")
        if repo is None or (repo.private and self.token not in repo.allowed):
            status = 401 if self.token is None else 404
            self._error(status, "RepoNotFound", "Repository not found")
        assert repo is not None
        return repo

    def _sha(self, repo: Repo, revision: str) -> str:
        sha = repo.refs.get(revision, revision)
        if sha not in repo.commits:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def _json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        said = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self._send(status, json.dumps({"error": message}).encode(), said)
        raise _Answered

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _tree_entry(file: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": file, "size": len(data), "oid": blob_id(data)}
    if file.endswith(LARGE):
        digest = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
    return entry
