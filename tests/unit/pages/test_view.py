"""What a page says of runs of every kind: early, late, without evaluations, of pairs, of vectors, broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from biject.pages.compare import compare_main
from biject.pages.findings import findings
from biject.pages.read import Run, read_run
from biject.pages.render import main_of
from biject.pages.view import view


def made(folder: Path, *events: dict[str, Any], **recipe: Any) -> Run:
    """A run with these events behind its start."""
    folder.mkdir(exist_ok=True)
    lines = [{"event": "start", "time": 1795775725.0, "recipe": recipe}, *events]
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_run(folder)


def steps(count: int) -> list[dict[str, Any]]:
    return [
        {"event": "step", "step": i, "loss": 1 / i, "seconds": i, "tokens": 9} for i in range(1, count + 1)
    ]


def evaluation(step: int, **metrics: float) -> dict[str, Any]:
    return {"event": "evaluation", "step": step, "seconds": step, **metrics}


def test_the_table_has_the_models_own_evaluation_and_the_training_loss(tmp_path: Path) -> None:
    found = [evaluation(i, loss=1 / i, accuracy=0.5) for i in range(2, 201, 2)]
    end = {"event": "end", "best": "step 78 of 200, by the smallest loss: loss 1"}
    table = view(made(tmp_path / "run", *steps(200), *found, end)).evaluations
    assert table.names == ("Step", "Training loss", "Loss", "Accuracy")
    assert 40 <= len(table.rows) <= 41
    assert table.chosen is not None
    assert table.rows[table.chosen][0] == "78"
    assert table.rows[0][1] == "0.7500"  # the mean of 1 and 1/2
    assert table.note.startswith(f"{len(table.rows)} of 100 evaluations, evenly spread.")


def test_a_run_without_evaluations_says_so(tmp_path: Path) -> None:
    growing = made(tmp_path / "one", {"event": "setup", "total_steps": 40}, *steps(10))
    assert view(growing).evaluations.note == "None so far."
    ended = made(tmp_path / "two", *steps(4), {"event": "end"})
    assert "nothing was held out" in view(ended).evaluations.note
    assert "nothing was held out" in main_of(ended)


def test_one_evaluation_is_no_curve(tmp_path: Path) -> None:
    run = made(tmp_path / "run", *steps(9), evaluation(9, loss=0.5, accuracy=0.7, margin=2.0))
    assert [chart.title for chart in view(run).charts] == ["Loss", "Tokens a second"]


def test_charts_of_a_run_reach_equally_far_and_mark_the_models_step(tmp_path: Path) -> None:
    end = {"event": "end", "best": "step 4 of 8, by the smallest loss: loss 1"}
    scored = [evaluation(4, loss=0.5, accuracy=0.7), evaluation(8, loss=0.6, accuracy=0.7)]
    charts = {chart.title: chart for chart in view(made(tmp_path / "run", *steps(8), *scored, end)).charts}
    assert {(c.data["left"], c.data["right"]) for c in charts.values()} == {(0.0, 8.0)}
    assert charts["Loss"].mark == charts["Evaluation"].mark == (50.0, "the model’s step")
    assert charts["Tokens a second"].mark is None
    assert charts["Loss"].latest == "At step 8: training 0.1250; evaluation 0.6000"


def test_rewards_stand_beside_each_other_and_margins_are_no_shares(tmp_path: Path) -> None:
    """A small margin was a flat line below the accuracy."""
    scored = [
        evaluation(at, loss=0.69, accuracy=0.5, margin=0.01, reward_chosen=0.2, reward_rejected=0.1,
                   logps_chosen=-154.0, logps_rejected=-163.0)
        for at in (4, 8)
    ]  # fmt: skip
    charts = {
        chart.title: chart for chart in view(made(tmp_path / "run", *steps(8), *scored, task="dpo")).charts
    }
    names = {title: {curve.name for curve in chart.curves} for title, chart in charts.items()}
    assert names["Evaluation"] == {"Accuracy"}
    assert names["Margin"] == {"Margin"}
    assert names["Rewards"] == names["Log-probabilities of completions"] == {"chosen", "rejected"}


def test_losses_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    bad = [{"event": "step", "step": i, "loss": float("nan"), "seconds": i} for i in (11, 12)]
    run = made(tmp_path / "run", *steps(10), *bad)
    assert view(run).alerts == ("The training loss was not a finite number in 2 steps, first in step 11.",)
    assert "first in step 11" in main_of(run)
    other = made(tmp_path / "other", *steps(10))
    assert view(other).alerts == ()
    assert "first in step 11" in compare_main([run, other])


def test_when_and_how_far(tmp_path: Path) -> None:
    setup = {"event": "setup", "total_steps": 40, "time": 1795775800.0}
    shown = view(made(tmp_path / "run", setup, *steps(10), train={"epochs": 4, "max_steps": None}))
    assert (shown.began, shown.progress) == ("2026-11-27", 25.0)
    assert shown.heard == ("2026-11-27T10:36:40Z", "2026-11-27 10:36:40 UTC")
    assert {figure.name: figure.note for figure in shown.figures}["Steps"] == "1 epoch of 4"
    ended = view(made(tmp_path / "ended", setup, *steps(40), {"event": "end"}))
    assert (ended.heard, ended.progress) == (None, None)


@pytest.mark.parametrize(
    ("metrics", "headline"),
    [
        ({"recall@1": 0.5, "mrr@10": 0.6, "ndcg@10": 0.7}, ("nDCG@10", "0.7000")),
        ({"pearson": 0.5, "spearman": 0.6}, ("Spearman", "0.6000")),
    ],
)
def test_an_embedder_is_not_judged_by_its_loss(
    tmp_path: Path, metrics: dict[str, float], headline: tuple[str, str]
) -> None:
    shown = view(made(tmp_path / "run", *steps(4), evaluation(4, loss=0.9, **metrics), task="embed")).headline
    assert shown is not None
    assert (shown.name, shown.value) == headline


def test_beside_what_one_has_without_learning() -> None:
    sure = {"accuracy": {"value": 0.75, "low": 0.5, "high": 0.9}}
    found = findings(
        {"task": "seqcls", "labels": ["no", "yes"], "confusion": [[4, 2], [3, 11]], "intervals": sure,
         "num_samples": 20, "of": 20}
    )  # fmt: skip
    assert found.seen == "20 held-out samples, 5 wrong"
    assert found.baseline == "Always “yes” is right in 70.0 %."
    pairs = findings({"task": "dpo", "examples": [{"margin": -0.25}, {"margin": 0.5}, {}]})
    assert pairs.baseline == "A coin is right in 50 %."
    assert [pair["prefers"] for pair in pairs.pairs] == [
        "prefers the rejected text",
        "prefers the chosen text",
        "",
    ]


def test_points_of_an_embedder_are_similarities() -> None:
    chart = findings({"task": "embed", "points": [[0, 0.2], [1, 0.9]]}).scatter
    assert chart is not None
    assert (chart.title, chart.curves[0].name) == ("Cosine similarity by truth", "cosine similarity")


def test_only_served_pages_link_to_runs(tmp_path: Path) -> None:
    """In a file such a link led to the root of the disk."""
    runs = [made(tmp_path / name, *steps(4)) for name in ("a", "b")]
    assert 'href="/' not in compare_main(runs)
    assert 'href="/run/1"' in compare_main(runs, linked=True)
    assert 'href="/"' in main_of(runs[0], back=True)
    assert 'href="/"' not in main_of(runs[0])


def test_the_seventh_run_is_drawn_otherwise_than_the_first(tmp_path: Path) -> None:
    page = compare_main([made(tmp_path / f"run{i}", *steps(4)) for i in range(7)])
    assert page.count("line c0") == 2
    assert page.count("line c0 again") == 1
