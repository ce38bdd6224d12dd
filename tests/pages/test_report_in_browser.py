"""Reports in headless Chromium: every width and scheme, no overflow, complaint, request, faint text."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest

from biject.pages.render import render_report

from .browser import Browser

HERE = Path(__file__).parent
AXE = Path(os.environ.get("BIJECT_AXE", HERE.parents[1] / "build" / "axe-core" / "axe.min.js"))
"""Of the npm package axe-core; `.ci/run` fetches it."""

OVERFLOW = """[...document.querySelectorAll("body *")].filter(e => {
  const box = e.getBoundingClientRect();
  return box.width && box.right > innerWidth + 1 && !e.closest(".scroll, pre, svg");
}).map(e => e.outerHTML.slice(0, 120))"""
AXE_RUN = """axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]}).then(found =>
  found.violations.map(v => v.id + ": " + v.nodes.slice(0, 3).map(n => n.html.slice(0, 150)).join(" | ")))"""


def check(chromium: Browser, url: str, *, site: str | None = None) -> None:
    """One page at one width and scheme; a served one may ask its own `site`, a file nobody."""
    chromium.open(url)
    assert chromium.run("document.documentElement.scrollWidth - innerWidth") <= 0
    assert chromium.run(OVERFLOW) == []
    assert chromium.complaints() == []
    requests = chromium.requests()
    assert requests == [url] if site is None else all(one.startswith(site) for one in requests)
    contrast = chromium.run((HERE / "contrast.js").read_text())
    assert contrast["seen"] > 20
    assert contrast["found"] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 390])
@pytest.mark.parametrize("task", ["seqcls", "tokcls", "qa", "causal"])
def test_at_every_width_and_scheme(
    runs: dict[str, Path], chromium: Browser, task: str, width: int, dark: bool
) -> None:
    chromium.look(width, dark=dark)
    check(chromium, (runs[task] / "report.html").as_uri())


@pytest.mark.parametrize("task", ["seqcls", "tokcls", "qa", "causal"])
def test_axe_finds_nothing(runs: dict[str, Path], chromium: Browser, task: str) -> None:
    if not AXE.is_file():
        pytest.skip(f"there is no {AXE}: npm's package axe-core")
    for dark in (False, True):
        chromium.look(768, dark=dark)
        chromium.open((runs[task] / "report.html").as_uri())
        assert axe(chromium) == []


def axe(chromium: Browser) -> list[str]:
    """What axe-core finds in the open page, folded parts opened."""
    chromium.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    chromium.run(AXE.read_text(encoding="utf-8") + ";0")
    found: list[str] = chromium.run(AXE_RUN)
    return found


def test_the_checks_can_fail(tmp_path: Path, chromium: Browser) -> None:
    """Planted: a wide box, a request, an error, faint text."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<!doctype html><body style='background:#fff'><p style='color:#bbb'>faint</p>"
        "<div style='width:3000px'>wide</div><img src='https://example.invalid/x.png'>"
        "<script>console.error('no')</script>" + "<p>text</p>" * 30
    )
    chromium.look(390, dark=False)
    chromium.open(page.as_uri())
    assert chromium.run(OVERFLOW)
    assert any("no" in text for text in chromium.complaints())
    assert len(chromium.requests()) == 2
    assert "faint" in chromium.run((HERE / "contrast.js").read_text())["found"][0]


def test_values_by_pointer_and_by_keyboard(runs: dict[str, Path], chromium: Browser) -> None:
    chromium.look(1280, dark=False)
    chromium.open((runs["seqcls"] / "report.html").as_uri())
    box = chromium.run(
        "(() => {const b = document.querySelector('.box').getBoundingClientRect();"
        " return [b.left, b.top, b.width, b.height]})()"
    )
    chromium.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + box[2] - 1, y=box[1] + box[3] / 2)
    read = chromium.run("document.querySelector('.read').textContent")
    events = [json.loads(line) for line in (runs["seqcls"] / "events.jsonl").read_text().splitlines()]
    last = [event for event in events if event["event"] == "step"][-1]
    found = re.match(r"step (\d+): training, each step ([\d.]+)", read)
    assert found is not None, read
    assert int(found[1]) == last["step"]
    assert float(found[2]) == pytest.approx(last["loss"], rel=1e-3)
    chromium.run("document.querySelector('.plot').focus()")
    for kind in ("keyDown", "keyUp"):
        chromium.call("Input.dispatchKeyEvent", type=kind, key="Home", code="Home")
    assert chromium.run("document.querySelector('.read').textContent").startswith("step 1: ")
    assert chromium.run("document.querySelector('.cursor').hidden") is False


def test_a_hostile_folder_is_text_and_nothing_else(tmp_path: Path, chromium: Browser) -> None:
    """Every string that a folder brings tries to be a script, and to load something."""
    bad = '</script><img src=x onerror="window.hit=1"><script>window.hit=1</script>\u202egnp.exe'
    run = tmp_path / "run<img src=x onerror=window.hit=1>"
    run.mkdir()
    recipe = {
        "model": bad,
        "data": bad,
        "task": bad,
        bad: bad,
        "train": {"metric": bad, "lr": bad, bad: [bad]},
    }
    events = [
        {"event": "start", "recipe": recipe, "data_lines": [bad], "environment": {bad: bad},
         "model": {"num_parameters": bad}, "total_steps": bad},
        *({"event": "step", "step": i, "loss": 1.0 / i, "lr": bad, "tokens": 1e308} for i in range(1, 9)),
        {"event": "step", "step": 1e400, "loss": 1}, {"event": "step", "step": "1"}, {"event": ["step"]},
        {"event": "evaluation", "step": 3, "loss": 0.5, bad: 0.5, "accuracy": bad, "perplexity": 1e300},
        {"event": "evaluation", "step": 4, "loss": 0.4, bad: 0.25},
        {"event": "end", "best": bad, "changes": [bad, 3], "proof": [bad], "passed": bad,
         "not_verified": bad},
    ]  # fmt: skip
    lines = [json.dumps(event) for event in events] + ["[" * 100_000, '{"event": "st', "\x00\xff"]
    (run / "events.jsonl").write_bytes("\n".join(lines).encode(errors="replace"))
    examples = {
        "seqcls": [{"text": bad, "label": bad, "prediction": 3, "score": bad}, 7],
        "tokcls": [{"tokens": [[bad, "B-" + bad, "O"], [bad], 3]}],
        "qa": [
            {"question": bad, "pieces": [[bad, "truth"], [bad, bad], 3], "answers": [bad], "prediction": bad}
        ],
        "causal": [{"tokens": [[bad, 9.0, bad], [bad, bad, bad]], "loss": bad}],
    }
    for task, found in examples.items():
        insights = {
            "task": task, "labels": [bad, bad], "confusion": [[1, 2], [3, 4]], "num_samples": 3, "of": 3,
            "per_label": [{"label": bad, "precision": bad}], "examples": found, "points": [[1, 2], bad],
            "calibration": {"bins": [{"confidence": x, "accuracy": x} for x in (0.5, 1)] + [bad]},
            "intervals": {"accuracy": bad},
        }  # fmt: skip
        (run / "insights.json").write_text(json.dumps(insights))
        (run / "verify.json").write_text(
            json.dumps({"levels": [{"name": bad, "checks": [{"name": bad}, 3]}, 4]})
        )
        page = tmp_path / f"{task}.html"
        page.write_text(render_report(run), encoding="utf-8")
        chromium.look(390, dark=True)
        check(chromium, page.as_uri())
        assert chromium.run("window.hit") is None
        assert chromium.run("document.querySelectorAll('img').length") == 0
        assert "\u202e" not in page.read_text(encoding="utf-8")


def test_a_hundred_thousand_steps(tmp_path: Path, chromium: Browser) -> None:
    """Under 2 MB, and open in under a second."""
    run = tmp_path / "long"
    run.mkdir()
    with (run / "events.jsonl").open("w") as stream:
        stream.write(json.dumps({"event": "start", "total_steps": 100_000, "recipe": {"model": "m"}}) + "\n")
        for i in range(1, 100_001):
            loss = 2 / (1 + i / 5000) + (i * 7919 % 1000) / 2000
            step = {"event": "step", "step": i, "loss": loss, "lr": 5e-5, "grad_norm": loss * 2,
                    "tokens": 900.0, "slots": 1200, "seconds": i * 0.1}  # fmt: skip
            stream.write(json.dumps(step) + "\n")
            if i % 500 == 0:
                stream.write(
                    json.dumps({"event": "evaluation", "step": i, "loss": loss, "accuracy": 0.8}) + "\n"
                )
    page = tmp_path / "long.html"
    page.write_text(render_report(run), encoding="utf-8")
    assert page.stat().st_size < 2_000_000
    chromium.look(1280, dark=False)
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        chromium.open(page.as_uri())
        chromium.run("document.body.getBoundingClientRect().height")
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 1, seconds
    assert chromium.complaints() == []
