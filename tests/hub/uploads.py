"""The server's other half: repositories are made, files arrive, a commit puts them together."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from .server import LARGE, Repo

if TYPE_CHECKING:
    from .server import HubServer, _Handler


def answer(handler: _Handler) -> None:
    """A POST or PUT, as the Hub answers it."""
    hub = handler.server_state
    given = handler.headers.get("Authorization")
    handler.token = given.removeprefix("Bearer ") if given else None
    path = unquote(urlsplit(handler.path).path)
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    if handler.headers.get("Transfer-Encoding") == "chunked":
        body = _chunks(handler)
    hub.requests.append(hub.request_type(handler.command, path, handler.token, None))
    if path.startswith("/store/"):
        _store(handler, hub, path.removeprefix("/store/"), body)
        return
    if handler.token not in hub.tokens:
        handler._error(401, "", "Invalid username or password.")
    if path == "/api/validate-yaml":
        handler._json({"warnings": [], "errors": []})
    elif path == "/api/repos/create":
        _create(handler, hub, json.loads(body))
    elif path.endswith("/info/lfs/objects/batch"):
        _batch(handler, hub, json.loads(body))
    elif "/preupload/" in path:
        files = [
            {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular",
             "shouldIgnore": False, "oid": None}
            for f in json.loads(body)["files"]
        ]  # fmt: skip
        handler._json({"files": files})
    else:
        _commit(handler, hub, path.removeprefix("/api/models/").partition("/commit/")[0], body)


def _chunks(handler: _Handler) -> bytes:
    found = b""
    while size := int(handler.rfile.readline().strip() or b"0", 16):
        found += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return found


def _create(handler: _Handler, hub: HubServer, wanted: dict[str, Any]) -> None:
    name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
    if name in hub.repos:
        place = {"error": "You already created this model repo", "url": f"{hub.endpoint}/{name}"}
        handler._send(409, json.dumps(place).encode(), {"Content-Type": "application/json"})
        return
    private = bool(wanted.get("private") or wanted.get("visibility") == "private")
    hub.repos[name] = Repo(private=private, allowed=(str(handler.token),))
    hub.repos[name].commit({})
    handler._json({"url": f"{hub.endpoint}/{name}", "name": name, "id": "1"})


def _batch(handler: _Handler, hub: HubServer, wanted: dict[str, Any]) -> None:
    objects: list[dict[str, Any]] = []
    for one in wanted["objects"]:
        there = {} if one["oid"] in hub.stored else {
            "actions": {"upload": {"href": f"{hub.endpoint}/store/{one['oid']}", "header": {}}}}  # fmt: skip
        objects.append({"oid": one["oid"], "size": one["size"], **there})
    handler._json({"transfer": "basic", "objects": objects})


def _store(handler: _Handler, hub: HubServer, digest: str, body: bytes) -> None:
    if hub.refused_stores > 0:
        hub.refused_stores -= 1
        handler._error(403, "", "The connection was lost")
    assert hashlib.sha256(body).hexdigest() == digest
    hub.stored[digest] = body
    handler._send(200, b"", {})


def _commit(handler: _Handler, hub: HubServer, name: str, body: bytes) -> None:
    repo = handler._repo(name)
    files = dict(repo.commits[repo.refs["main"]])
    for line in body.splitlines():
        entry = json.loads(line)
        value = entry["value"]
        if entry["key"] == "header":
            hub.messages.append(value["summary"])
        elif entry["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif entry["key"] == "lfsFile":
            files[value["path"]] = hub.stored[value["oid"]]
    sha = repo.commit(files)
    handler._json({"commitUrl": f"{hub.endpoint}/{name}/commit/{sha}", "commitOid": sha, "success": True})
