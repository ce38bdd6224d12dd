"""Several runs side by side: how they stand, their curves over each other, and where their recipes differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biject.pages.chart import Chart, make_chart
from biject.pages.curves import loss_of, metric_names, metric_of, reach
from biject.pages.read import Run
from biject.pages.render import fragment, unreadable
from biject.pages.settings import differences
from biject.pages.view import View, view
from biject.pages.words import metric_name

_MOST_METRICS = 4

_FIGURES = ("Steps", "Time", "Tokens a second", "Pictures a second")


def compare_main(runs: Sequence[Run], *, linked: bool = False) -> str:
    """What stands inside of `<main>`; where `linked`, each run links to its own page at `run/NUMBER`."""
    each = [_Compared.of(run, name) for run, name in zip(runs, _names(runs), strict=True)]
    shown = [one for one in each if one.run is not None]
    return fragment(
        "compare.html",
        linked=linked,
        rows=[one.row for one in each],
        charts=_charts(each),
        names=[one.row["name"] for one in shown],
        settings=differences([one.recipe for one in shown]),
    )


@dataclass(frozen=True)
class _Compared:
    """A run beside others; one that cannot be shown is a row that says so, and takes no other down.

    Attributes:
        run: None where it cannot be shown.
        row: Of the table.
        recipe: Its settings.
    """

    run: Run | None
    row: Mapping[str, Any]
    recipe: Mapping[str, Any]

    @classmethod
    def of(cls, run: Run, name: str) -> _Compared:
        try:
            recipe = run.recipe
            differences([recipe])
            return cls(run, _row(view(run), name), recipe)
        except Exception as error:  # whatever it is, of whatever file
            nothing = {"task": "", "verdict": "", "best": None, "alerts": (), "figures": ()}
            return cls(None, {"name": name, "state": unreadable(error), "kind": "bad", **nothing}, {})


def _row(shown: View, name: str) -> Mapping[str, Any]:
    return {
        "name": name,
        "task": shown.task,
        "state": shown.state,
        "kind": shown.state_kind,
        "verdict": shown.verdict,
        "best": shown.headline,
        "alerts": shown.alerts,
        "figures": [f for f in shown.figures if f.name in _FIGURES],
    }


def _names(runs: Sequence[Run]) -> list[str]:
    """Folders' names, with as much of the path as tells them apart."""
    paths = [run.folder.resolve() for run in runs]
    for parts in range(1, 12):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _charts(compared: Sequence[_Compared]) -> list[Chart]:
    each = [(color, one.run, one.row["name"]) for color, one in enumerate(compared) if one.run is not None]
    runs = [run for _, run, _ in each]
    across = reach(runs)
    losses = [loss_of(run, name=name, color=c) for c, run, name in each]
    found = [make_chart("Training loss, smoothed", losses, across=across)]
    metrics = dict.fromkeys(metric for run in runs for metric in metric_names(run))
    for metric in ["loss", *list(metrics)[:_MOST_METRICS]]:
        series = [one for c, run, name in each for one in metric_of(run, metric, name=name, color=c)]
        found.append(make_chart(f"Evaluation: {metric_name(metric)}", series, across=across))
    return [chart for chart in found if chart is not None]
