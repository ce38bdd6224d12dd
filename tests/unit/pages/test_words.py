"""Numbers as people write them; curves that stay what they are; folders that grow."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from biject.config.recipe import FinetuneRecipe
from biject.errors import InputError
from biject.pages.chart import make_chart, nice_ticks
from biject.pages.read import Run, read_run
from biject.pages.series import Series, rates, smoothed, thinned
from biject.pages.settings import differences, settings
from biject.pages.words import (
    clean,
    column,
    compact,
    decimal,
    duration,
    flops,
    metric_name,
    number,
    percent,
    size,
    tick,
    when,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "1"), (1234, "1,234"), (1234.6, "1,235"), (0.8123456, "0.8123"), (12.3456, "12.35"),
     (5e-5, "5e-5"), (2.34e-5, "2.34e-5"), (1e-4, "0.0001"), (3e-9, "3e-9"),
     (-0.5, "-0.5000"), (float("nan"), "—"),
     (float("inf"), "—"), ("<b>", "—"), (True, "—"), (None, "—"), (1e20, "1e20"), (10**400, "—")],
)  # fmt: skip
def test_decimal(value: object, text: str) -> None:
    assert decimal(value) == text


def test_other_words() -> None:
    assert [tick(v) for v in (0.5, 0.25, 1000, 0.00005)] == ["0.5", "0.25", "1,000", "5e-5"]
    assert [compact(v) for v in (950, 7640, 12_345, 4_390_000, 7.24e9)] == [
        "950", "7,640", "12.3 k", "4.39 M", "7.24 B"]  # fmt: skip
    assert [duration(v) for v in (4.21, 24, 59.99, 151, 11_100)] == [
        "4.2 s", "24 s", "1 min 00 s", "2 min 31 s", "3 h 05 min"]  # fmt: skip
    assert (percent(0.8123), size(90_868_376), metric_name("f1_macro")) == ("81.2 %", "90.9 MB", "F1 macro")
    assert clean("a\u202eb\x1b[2J\ud800") == "a�b�[2J�"
    assert number("1") is None
    assert [number(v) for v in (1e150, -1e151, 10**200, 5e-324, float("-inf"))] == [
        1e150,
        None,
        None,
        0,
        None,
    ]
    assert [metric_name(name) for name in ("ndcg@10", "recall@1", "map", "mse", "logps_chosen")] == [
        "nDCG@10", "Recall@1", "MAP", "MSE", "Log-probability, chosen"]  # fmt: skip
    assert [flops(v) for v in (93.2e9, 989e12, 0, None)] == ["93.2 GFLOP/s", "989 TFLOP/s", "", ""]
    assert [when(v) for v in (1795775725.3, None, 1e300, -1)] == ["2026-11-27 10:35:25", "", "", ""]


def test_numbers_below_each_other_have_the_same_places() -> None:
    assert column([-154.2385, 3.5, None]) == ["-154.2", "3.5", "—"]
    assert column([0.0104, 0.54]) == ["0.0104", "0.5400"]
    assert column([1200, 40]) == ["1,200", "40"]
    assert column([5e-5, 1e-4]) == ["5e-5", "0.0001"]
    assert column([float("nan"), 0]) == ["—", "0"]
    assert column([1.0, 0.0]) == ["1.0000", "0.0000"]


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0, 1),
        (0.2, 0.25),
        (-3, 1000),
        (5, 5),
        (0, 0),
        (1e-9, 2e-9),
        (1e300, 2e300),
        (0, 5e-324),
        (0, 1e-140),
        (1, 1 + 1e-15),
        (-1e308, 1e308),
        (-1e150, 1e150),
    ],
)
def test_ticks_hold_the_range_and_are_few(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert all(map(math.isfinite, ticks))
    assert ticks == sorted(set(ticks))
    assert 2 <= len(ticks) <= 9
    assert ticks[0] <= low + abs(low) * 1e-9
    assert ticks[-1] >= high - abs(high) * 1e-9


def test_thinned_keeps_peaks_and_ends() -> None:
    points = [(float(i), 100.0 if i == 7_777 else float(i % 7)) for i in range(100_000)]
    few = thinned(points)
    assert len(few) <= 502
    assert few[0] == points[0]
    assert few[-1] == points[-1]
    assert (7_777.0, 100.0) in few
    assert few == sorted(few)


def test_smoothed_is_a_weighted_mean() -> None:
    assert smoothed([(1.0, 4.0), (2.0, 4.0)]) == [(1.0, 4.0), (2.0, 4.0)]
    short = [y for _, y in smoothed([(float(i), float(i % 2)) for i in range(60)])]
    assert all(0.3 < y < 0.7 for y in short[20:])  # over a fiftieth it was the curve itself
    line = smoothed([(float(i), float(i % 2)) for i in range(1000)])
    assert line[0][1] == 0.0
    assert abs(line[-1][1] - 0.5) < 0.05


def test_rates_pass_over_a_clock_that_starts_anew() -> None:
    seconds = [(1.0, 1.0), (2.0, 2.0), (3.0, 0.5), (4.0, 1.0)]
    assert rates(seconds, [10, 10, 10, 10]) == [(2.0, 10.0), (4.0, 20.0)]


def test_a_chart_in_words_and_in_its_box() -> None:
    chart = make_chart("Loss", [Series(name="training", points=((1.0, 2.0), (3.0, 1.0)))])
    assert chart is not None
    assert chart.curves[0].path == "M0.0 0.0L1000.0 400.0"
    assert chart.summary == "training: 2 at step 1, 1 at step 3, lowest 1, highest 2"
    assert make_chart("Loss", [Series(name="training", points=())]) is None


def test_settings_that_differ() -> None:
    recipe = FinetuneRecipe(model="m", data="d", task="seqcls")
    plain = {"model": "m", "data": "d", "task": "seqcls", "max_length": 64, "labels": [],
             "train": {"lr": 5e-5, "epochs": 7}}  # fmt: skip
    differing, same = settings(plain)
    assert [(s.name, s.value, s.default) for s in differing] == [
        ("model", "m", ""), ("data", "d", ""), ("task", "seqcls", ""), ("max_length", "64", "none"),
        ("train.epochs", "7", "3")]  # fmt: skip
    assert {s.name for s in same} == {"labels", "train.lr"}
    assert recipe.train.epochs == 3
    assert differences([plain, {**plain, "train": {"lr": 1e-4, "epochs": 7}}]) == [
        ("train.lr", ["5e-5", "0.0001"])]  # fmt: skip


def test_a_run_that_grows_is_read_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(
        '{"event": "start", "total_steps": 4}\n{"event": "step", "step": 1, "loss": 2.0}\n{"event": "st'
    )
    run = read_run(tmp_path)
    assert list(run.steps) == [1]
    with path.open("a") as stream:
        stream.write('ep", "step": 2, "loss": 1.0}\n')
    assert run.refresh() is True
    assert run.refresh() is False
    assert [step["loss"] for step in run.ordered(run.steps)] == [2.0, 1.0]
    path.write_text(json.dumps({"event": "step", "step": 9, "loss": 3.0}) + "\n")  # another run in its place
    assert run.refresh() is True
    assert list(run.steps) == [9]
    with pytest.raises(InputError, match=r"is no run's folder: it has no events\.jsonl"):
        read_run(tmp_path / "nothing")
    assert Run(tmp_path / "nothing").refresh() is False
