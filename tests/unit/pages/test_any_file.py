"""Whatever a run's files hold, its page is made; and a run that cannot be shown takes no other down."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biject.pages.compare import compare_main
from biject.pages.curves import charts
from biject.pages.findings import findings
from biject.pages.read import Run, read_run
from biject.pages.render import main_of, whole
from biject.pages.view import View, view

DIGITS = "1" * 5000
START = {"event": "start", "time": 1.0, "recipe": {"task": "seqcls"}}


def steps(*losses: float, **more: Any) -> list[dict[str, Any]]:
    return [{"event": "step", "step": i, "loss": loss, "seconds": i, **more} for i, loss in enumerate(losses)]


def scores(*values: float) -> list[dict[str, Any]]:
    return [{"event": "evaluation", "step": i, "loss": 1.0, "f1": value} for i, value in enumerate(values)]


def write(folder: Path, events: list[Any], insights: Any = None) -> Run:
    folder.mkdir(exist_ok=True)
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in [START, *events]))
    (folder / "insights.json").write_text(json.dumps(insights))
    return read_run(folder)


BINS = [{"confidence": 1e307, "accuracy": 0.5, "count": 3}, {"confidence": 0.5, "accuracy": 0.5}]
BAD: dict[str, tuple[list[Any], Any]] = {
    "losses": (steps(-1e308, 1e308), None),
    "losses at the limit": (steps(*[-1e150, 1e150] * 20), None),
    "small losses": (steps(0.0, 5e-324), None),
    "one large loss": (steps(1e150, 1e150), None),
    "metrics": (scores(-1e308, 1e308), None),
    "tokens": ([{**row, "seconds": 1 + 1e-9 * row["step"]} for row in steps(1.0, 2.0, tokens=1e308)], None),
    "rates": (
        [{**row, "seconds": 1e-150 * (1 + row["step"] / 2**52)} for row in steps(1, 2, tokens=1e150)],
        None,
    ),
    "calibration": ([], {"calibration": {"bins": BINS, "ece": 1e308}}),
    "points": ([], {"points": [[1e308, 1], [-1e308, 2]]}),
    "one point": ([], {"points": [[1e150, 1e150]]}),
    "confusion": ([], {"labels": ["a", "b"], "confusion": [[1e308, -1e308], [1, 2]]}),
    "confusion at the limit": ([], {"labels": ["a", "b"], "confusion": [[1e150, -1e150], [1e-150, 2]]}),
    "best": ([*scores(1.0), {"event": "end", "best": f"step {DIGITS} of 3"}], None),
    "surrogates": ([{"event": "setup", "data_lines": ["\ud800"], "environment": {"\udfff": "\ud800"}}], None),
}


def check(run: Run) -> None:
    page = whole(run.folder.name, main_of(run))
    assert "cannot be shown" not in page
    assert "cannot be shown" not in compare_main([run, run])
    page.encode()


@pytest.mark.parametrize("case", BAD)
def test_the_page_is_made(case: str, tmp_path: Path) -> None:
    events, insights = BAD[case]
    check(write(tmp_path, events, insights))


NUMBERS = st.one_of(
    st.sampled_from(
        [0.0, 5e-324, 1e-150, 1.0, 1 + 2**-52, 1e150, 1e308, float("nan"), float("inf"), 10**400]
    ),
    st.floats(),
    st.integers(),
)
SIGNED = NUMBERS.flatmap(lambda value: st.sampled_from([value, -value]))
ANY = st.recursive(
    st.one_of(SIGNED, st.text(max_size=4), st.booleans(), st.none()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)
ROW = dict.fromkeys(("seconds", "loss", "lr", "grad_norm", "tokens", "slots", "f1", "margin"), SIGNED)
PART = st.fixed_dictionaries(dict.fromkeys(("tokens", "work_ms", "wait_ms"), SIGNED))
STEP = st.fixed_dictionaries(
    {"event": st.sampled_from(["step", "evaluation"]), "step": st.integers(0, 3), **ROW},
    optional={"by_rank": st.lists(PART, max_size=2), "meeting": st.fixed_dictionaries({"anchor": SIGNED})},
)
SETUP = st.fixed_dictionaries(
    {"event": st.just("setup"), "total_steps": SIGNED, "model": ANY},
    optional={"recipe": ANY, "environment": ANY, "data_lines": ANY},
)
END = st.fixed_dictionaries(
    {"event": st.sampled_from(["end", "interrupted"])},
    optional=dict.fromkeys(("best", "seconds", "mfu", "peak_flops", "peak_memory_bytes", "proof"), ANY),
)
BIN = st.fixed_dictionaries(dict.fromkeys(("confidence", "accuracy", "count"), SIGNED))
PAIRS = st.lists(st.lists(SIGNED, min_size=2, max_size=2), max_size=3)
INSIGHTS = st.fixed_dictionaries(
    {"task": st.sampled_from(["seqcls", "tokcls", "qa", "causal", "dpo", "embed"]) | ANY},
    optional={
        "labels": st.just(["a", "b"]),
        "confusion": st.lists(st.lists(SIGNED, min_size=2, max_size=2), min_size=2, max_size=2),
        "calibration": st.fixed_dictionaries({"bins": st.lists(BIN, max_size=3), "ece": SIGNED}),
        "points": PAIRS,
        "num_samples": SIGNED,
        "of": SIGNED,
        "intervals": ANY,
        "per_label": ANY,
        "examples": ANY,
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=st.lists(STEP | SETUP | END, max_size=6), insights=INSIGHTS)
def test_the_page_of_anything_is_made(events: list[Any], insights: Any, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "anything"
    check(write(folder, events, insights))


def fails(run: Run) -> View:
    if run.folder.name == "bad":
        raise OverflowError("of <b>a kind</b> that nobody thought of")
    return view(run)


def test_a_run_that_cannot_be_shown_is_named_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biject.pages.compare.view", fails)
    monkeypatch.setattr("biject.pages.render.view", fails)
    runs = [write(tmp_path / name, steps(2.0, 1.0)) for name in ("good", "bad", "fine")]
    said = "cannot be shown: OverflowError: of &lt;b&gt;a kind"
    page = compare_main(runs)
    assert page.count(said) == 1
    assert "their settings are the same" in page
    assert page.count('class="line') == 2
    assert said in main_of(runs[1], back=True)
    assert "cannot be shown" not in main_of(runs[0])


def test_events_that_cannot_be_opened_any_more_are_nothing_new(tmp_path: Path) -> None:
    run = write(tmp_path, steps(1.0))
    (tmp_path / "events.jsonl").unlink()
    (tmp_path / "events.jsonl").mkdir()
    assert run.refresh() is False
    assert len(run.steps) == 1


def test_a_pipe_is_no_file_of_a_run(tmp_path: Path) -> None:
    """It would be waited for: the writer here has waited for its reader until the end."""

    def speak() -> None:
        with contextlib.suppress(BrokenPipeError):
            pipe.write_text('{"passed": true}')

    run, pipe = write(tmp_path, steps(1.0)), tmp_path / "verify.json"
    os.mkfifo(pipe)
    writer = threading.Thread(target=speak, daemon=True)
    writer.start()
    assert run.document("verify.json") == {}
    assert writer.is_alive()
    os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
    (tmp_path / "events.jsonl").unlink()
    os.mkfifo(tmp_path / "events.jsonl")
    assert run.refresh() is False


def test_a_matrix_or_metrics_without_end_are_not_drawn(tmp_path: Path) -> None:
    names = [f"label {i}" for i in range(61)]
    rows = [[1] * len(names) for _ in names]
    few = findings({"labels": names[:60], "confusion": [row[:60] for row in rows[:60]]})
    assert len(few.confusion) == 60
    assert findings({"labels": names, "confusion": rows}).confusion == ()
    many = {f"m{i}": 2.0 + i for i in range(99)}
    metrics = [{"event": "evaluation", "step": i, **many, "last": 7.0 + i} for i in range(2)]
    assert [chart.title for chart in charts(write(tmp_path, metrics))][-1] == "M5"
    events = [{**row, **{f"m{i}": 0.5 / (1 + i) for i in range(2_000)}, "last": 9.0} for row in metrics]
    assert "Last" not in [chart.title for chart in charts(write(tmp_path, events))]
