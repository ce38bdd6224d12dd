"""Reports of pictures, pairs, vectors, and of runs with nothing to show, from folders written by hand."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from biject.pages.render import render_report

from .browser import Browser
from .test_report_in_browser import AXE, axe, check

TEXT = "a film that nobody who has seen it will forget, <b>however</b> hard they try, for many years to come"


def _png() -> str:
    """A picture of one pixel."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = part(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    whole = b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", zlib.compress(b"\0\x80")) + part(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(whole).decode()


def _insights(task: str) -> dict[str, Any]:
    sure = {"accuracy": {"value": 0.75, "low": 0.5, "high": 0.9}}
    if task == "dpo":
        pairs = [
            {"prompt": TEXT * p, "chosen": TEXT * 2, "rejected": TEXT, "margin": m}
            for p, m in ((0, -0.3), (1, 0.2))
        ]
        return {"task": task, "num_samples": 20, "of": 20, "intervals": sure, "examples": pairs}
    if task == "embed":
        points = [[i % 2, i / 20] for i in range(20)]
        return {"task": task, "num_samples": 20, "of": 20, "intervals": {}, "points": points}
    shown = [
        {"text": f"a-very-long-name-of-a-file-without-a-space-{i}.png", "picture": _png(),
         "label": "digit 5", "prediction": f"digit {i}", "score": 0.5}
        for i in range(9)
    ]  # fmt: skip
    counts = {"labels": ["digit 5", "digit 6"], "confusion": [[9, 3], [2, 6]]}
    return {"task": task, "num_samples": 20, "of": 20, "intervals": sure, "examples": shown, **counts}


def _page(folder: Path, task: str) -> str:
    """The address of a report."""
    run = folder / f"run of {task}"
    run.mkdir()
    metrics = {
        "dpo": {"accuracy": 0.7, "margin": 0.02, "reward_chosen": -0.1, "reward_rejected": -0.2,
                "logps_chosen": -154.2, "logps_rejected": -163.1},
        "embed": {"pearson": -0.2, "spearman": -0.1, "ndcg@10": 0.7},
        "imgcls": {"accuracy": 0.75, "f1_macro": 0.7},
    }.get(task)  # fmt: skip
    events: list[dict[str, Any]] = [
        {
            "event": "start",
            "time": 1795775725.0,
            "recipe": {"model": "m", "task": task, "train": {"epochs": 2}},
        },
        {"event": "setup", "time": 1795775726.0, "total_steps": 60},
    ]
    for i in range(1, 31):
        loss = float("nan") if task == "nothing" and i > 20 else 2 / i
        events.append({"event": "step", "step": i, "loss": loss, "lr": 5e-5 / i, "seconds": i, "tokens": 90})
        if metrics and i % 10 == 0:
            events.append({"event": "evaluation", "step": i, "seconds": i, "loss": 1 / i, **metrics})
    if metrics:
        events.append({"event": "end", "best": "step 20 of 30, by the smallest loss: loss 1", "passed": True})
        (run / "insights.json").write_text(json.dumps(_insights(task)))
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    page = folder / f"{task}.html"
    page.write_text(render_report(run), encoding="utf-8")
    return page.as_uri()


@pytest.mark.parametrize("task", ["dpo", "embed", "imgcls", "nothing"])
def test_at_every_width_and_scheme(tmp_path: Path, chromium: Browser, task: str) -> None:
    url = _page(tmp_path, task)
    for dark in (False, True):
        for width in (1280, 768, 390):
            chromium.look(width, dark=dark)
            check(chromium, url)
        if AXE.is_file():
            assert axe(chromium) == []


def test_every_point_is_reached_by_keyboard(tmp_path: Path, chromium: Browser) -> None:
    """Points above each other held the cursor: it went back to the first of them."""
    chromium.look(1280, dark=False)
    chromium.open(_page(tmp_path, "embed"))
    chromium.run("[...document.querySelectorAll('.plot')].at(-1).focus()")
    found = []
    for _ in range(20):
        chromium.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", code="ArrowRight")
        found.append(chromium.run("document.activeElement.getAttribute('aria-valuetext')"))
    assert found[0] == "truth 0: cosine similarity 0"
    assert found[-1] == "truth 1: cosine similarity 0.9500"
    assert len(set(found)) == 20


def test_the_same_step_in_all_charts_and_no_jump(tmp_path: Path, chromium: Browser) -> None:
    chromium.look(1280, dark=False)
    chromium.open(_page(tmp_path, "imgcls"))
    left, top, height = chromium.run(
        "(() => {const b = document.querySelector('.box').getBoundingClientRect();"
        " return [b.left + b.width / 2, b.top + 20, document.body.scrollHeight]})()"
    )
    chromium.call("Input.dispatchMouseEvent", type="mouseMoved", x=left, y=top)
    read = chromium.run(
        "[...document.querySelectorAll('.read')].map(one => one.textContent).filter(one => one)"
    )
    assert len(read) == 4
    assert {one.partition(":")[0] for one in read} <= {
        "step 15",
        "step 10",
        "step 20",
    }  # evaluations have some
    assert chromium.run("document.body.scrollHeight") == height


def test_what_a_run_that_is_gone_says(tmp_path: Path, chromium: Browser) -> None:
    """When it was heard of last, in words that grow; and its share of the steps in the title."""
    chromium.look(390, dark=True)
    chromium.open(_page(tmp_path, "nothing"))
    assert chromium.run("document.title") == "50 % · run of nothing · Biject"
    text = chromium.run("document.body.innerText")
    assert "The training loss was not a finite number in 10 steps, first in step 21." in text
    assert "Last heard of at 2026-11-27 10:35:26 UTC" in text
    assert "None so far." in text
