"""`biject watch`: live pages, and who gets them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from biject.cli.main import main
from biject.pages.serve import Watched, make_app

from .browser import Browser
from .test_report_in_browser import AXE, axe, check

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


@contextmanager
def watching(*arguments: object) -> Iterator[str]:
    """The address of a server in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "biject", "watch", *map(str, arguments), "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found is not None, process.communicate()[1]
        yield found[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def ask(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def growing(tmp_path: Path) -> Path:
    run = tmp_path / "a run"
    run.mkdir()
    lines = [{"event": "start", "recipe": {"model": "m", "task": "seqcls", "train": {"lr": 1e-3}}},
             {"event": "setup", "total_steps": 40},
             *({"event": "step", "step": i, "loss": 1 / i, "seconds": i} for i in range(1, 11))]  # fmt: skip
    (run / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_a_page_that_grows(growing: Path, chromium: Browser) -> None:
    with watching(growing) as url:
        chromium.look(768, dark=False)
        chromium.open(url)
        state = "document.querySelector('.chip').textContent"
        assert chromium.run(state) == "step 10 of 40"
        chromium.run("document.querySelector('details') && (document.querySelector('details').open = true)")
        with (growing / "events.jsonl").open("a") as stream:
            stream.write(json.dumps({"event": "step", "step": 25, "loss": 0.01, "seconds": 30}) + "\n")
        deadline = time.monotonic() + 20
        while chromium.run(state) != "step 25 of 40":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        chromium.run("document.querySelector('.plot').focus()")
        chromium.call("Input.dispatchKeyEvent", type="keyDown", key="End", code="End")
        assert chromium.run("document.querySelector('.read').textContent").startswith("step 25: ")
        assert chromium.complaints() == []
        assert all(asked.startswith(url) for asked in chromium.requests())


def test_what_somebody_looks_at_stays_and_a_server_that_is_gone_is_named(
    growing: Path, chromium: Browser
) -> None:
    """Values under the pointer, and marked text, are not taken away by what is new."""
    with watching(growing, growing) as url:
        chromium.look(1280, dark=False)
        chromium.open(f"{url}run/0")
        assert chromium.run("document.querySelector('header a').getAttribute('href')") == "/"
        x, y = chromium.run(
            "(() => {const b = document.querySelector('.box').getBoundingClientRect();"
            " return [b.left + b.width / 2, b.top + 9]})()"
        )
        chromium.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        chromium.run("getSelection().selectAllChildren(document.querySelector('h1'))")
        with (growing / "events.jsonl").open("a") as stream:
            stream.write(json.dumps({"event": "step", "step": 25, "loss": 0.01, "seconds": 30}) + "\n")
        state = "document.querySelector('.chip').textContent"
        time.sleep(3)
        assert chromium.run(state) == "step 10 of 40"
        chromium.run("getSelection().removeAllRanges()")
        deadline = time.monotonic() + 20
        while chromium.run(state) != "step 25 of 40":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert chromium.run("document.querySelector('.read').textContent").startswith("step ")
        chromium.run("document.querySelector('.plot').focus()")
        chromium.call("Input.dispatchKeyEvent", type="keyDown", key="Home", code="Home")
        with (growing / "events.jsonl").open("a") as stream:
            stream.write(json.dumps({"event": "step", "step": 26, "loss": 0.01, "seconds": 31}) + "\n")
        while chromium.run(state) != "step 26 of 40":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert chromium.run("document.activeElement.className") == "plot"
        assert chromium.run("document.querySelector('.read').textContent").startswith("step 1: ")
        assert chromium.run("document.querySelector('#gone').hidden") is True
    deadline = time.monotonic() + 20
    while chromium.run("document.querySelector('#gone').hidden"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "does not answer" in chromium.run("document.querySelector('#gone').textContent")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 390])
def test_side_by_side(
    runs: dict[str, Path], chromium: Browser, tmp_path: Path, width: int, dark: bool
) -> None:
    page = tmp_path / "both.html"
    assert main(["watch", str(runs["seqcls"]), str(runs["tokcls"]), "--write", str(page)]) == 0
    chromium.look(width, dark=dark)
    check(chromium, page.as_uri())
    text = chromium.run("document.body.innerText")
    assert "run of seqcls" in text
    assert "token classification" in text
    assert "Where their recipes differ" in text
    heights = chromium.run("[...document.querySelectorAll('.chip')].map(one => one.offsetHeight)")
    assert max(heights) < 40  # on a phone they had a letter a line


def test_live_pages_at_every_width(runs: dict[str, Path], chromium: Browser) -> None:
    """What is served is what is checked: a live page of each task, in both schemes."""
    with watching(*runs.values()) as url:
        for number in range(4):
            for width in (1280, 768, 390):
                for dark in (False, True):
                    chromium.look(width, dark=dark)
                    check(chromium, f"{url}run/{number}", site=url)


def test_live_pages_side_by_side_and_axe(runs: dict[str, Path], chromium: Browser) -> None:
    """The page of several runs at every width; axe-core on it and on each run's own, where it is there."""
    with watching(*runs.values()) as url:
        for dark in (False, True):
            for width in (1280, 768, 390):
                chromium.look(width, dark=dark)
                check(chromium, url, site=url)
            if AXE.is_file():
                assert axe(chromium) == []
        if not AXE.is_file():
            pytest.skip(f"there is no {AXE}: npm's package axe-core")
        for number in range(4):
            chromium.open(f"{url}run/{number}")
            assert axe(chromium) == []


def test_a_live_page_of_a_hundred_thousand_steps(tmp_path: Path, chromium: Browser) -> None:
    """Opens in under a second, although it takes longer to make; what came since follows."""
    run = tmp_path / "long"
    run.mkdir()
    with (run / "events.jsonl").open("w") as stream:
        stream.write(json.dumps({"event": "setup", "total_steps": 200_000}) + "\n")
        for i in range(1, 100_001):
            step = {"event": "step", "step": i, "loss": 2 / i, "lr": 5e-5, "tokens": 900, "seconds": i * 0.1}
            stream.write(json.dumps(step) + "\n")
    with watching(run) as url:
        chromium.look(1280, dark=False)
        chromium.open(url)
        with (run / "events.jsonl").open("a") as stream:
            stream.write(
                json.dumps({"event": "step", "step": 100_001, "loss": 0.5, "seconds": 10_001}) + "\n"
            )
        began = time.monotonic()
        chromium.open(url)
        chromium.run("document.body.getBoundingClientRect().height")
        assert time.monotonic() - began < 1
        deadline = time.monotonic() + 60
        while chromium.run("document.querySelector('.chip').textContent") != "step 100,001 of 200,000":
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_only_for_this_machine_and_this_name(growing: Path) -> None:
    with watching(growing) as url:
        assert url.startswith("http://127.0.0.1:")
        assert ask(url)[0] == 200
        assert ask(url, Host="evil.example")[0] == 403  # a name that somebody lets point here
        assert ask(url + "events", Host="evil.example:80")[0] == 403
        assert ask(url + "run/1")[0] == 404
        assert ask(url + f"run/{'1' * 5000}")[0] == 404
        assert ask(url + "run/..%2f..%2fetc%2fpasswd")[0] == 404
        assert ask(url + "events.jsonl")[0] == 404


def test_names_of_hosts_have_no_case(growing: Path) -> None:
    with watching(growing, "--host", "LocalHost") as url:
        assert ask(url) == ask(url.replace("LocalHost", "localhost"))
        assert ask(url)[0] == 200
        assert ask(url, Host="LOCALHOST:1")[0] == 200
        assert ask(url, Host="[")[0] == 403


def test_a_name_of_this_machine_in_any_case(growing: Path) -> None:
    """With its token; a request comes with the name in lower case, as browsers write it."""
    app = make_app(Watched([growing]), hosts=("MyBox",), token="t")
    assert [status(app, host, token="t") for host in ("mybox:80", "MyBox", "MYBOX")] == [200, 200, 200]
    assert status(app, "mybox", token="x") == 403
    assert status(app, "other", token="t") == 403


def status(app: Any, host: str, *, token: str) -> int:
    """The answer's, without a server."""
    headers = [(b"host", host.encode()), (b"cookie", f"biject_token={token}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers}
    found: list[int] = []

    async def send(message: dict[str, Any]) -> None:
        found.extend([message["status"]] if message["type"] == "http.response.start" else [])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    asyncio.run(app(scope, receive, send))
    return found[0]


def test_elsewhere_only_with_the_token(growing: Path) -> None:
    with watching(growing, "--host", "0.0.0.0") as shown:
        port, token = re.search(r":(\d+)/\?token=(\S+)", shown).groups()  # type: ignore[union-attr]
        url = f"http://127.0.0.1:{port}/"
        assert len(token) >= 32
        assert ask(url)[0] == 403
        assert ask(url + "events")[0] == 403
        assert ask(url + "run/0")[0] == 403
        assert ask(url + f"?token={token[:-1]}x")[0] == 403
        assert ask(url, Cookie=f"biject_token={token}")[0] == 200
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(f"{url}?token={token}", timeout=20) as answer:
            assert answer.status == 200
            assert "token" not in answer.url


def test_wrong_usage(run_main, growing: Path, tmp_path: Path) -> None:
    assert "watch needs the folder of a run" in run_main("watch")
    assert "is no run's folder" in run_main("watch", tmp_path)
    assert "expected 0 to 65535" in run_main("watch", growing, "--port", "99999")
    (tmp_path / "there.html").touch()
    assert "exists already" in run_main("watch", growing, "--write", tmp_path / "there.html")


@pytest.fixture
def run_main(capsys: pytest.CaptureFixture[str]):
    def call(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        return capsys.readouterr().err

    return call
