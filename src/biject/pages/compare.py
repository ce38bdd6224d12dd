"""Several runs side by side: how they stand, their curves over each other, and where their recipes differ."""

from __future__ import annotations

from collections.abc import Sequence

from biject.pages.chart import Chart, make_chart
from biject.pages.curves import loss_of, metric_names, metric_of, reach
from biject.pages.read import Run
from biject.pages.render import fragment
from biject.pages.settings import differences
from biject.pages.view import view
from biject.pages.words import metric_name

_MOST_METRICS = 4

_FIGURES = ("Steps", "Time", "Tokens a second", "Pictures a second")


def compare_main(runs: Sequence[Run], *, linked: bool = False) -> str:
    """What stands inside of `<main>`; where `linked`, each run links to its own page at `run/NUMBER`."""
    names = _names(runs)
    views = [view(run) for run in runs]
    rows = [
        {
            "name": name,
            "task": shown.task,
            "state": shown.state,
            "kind": shown.state_kind,
            "verdict": shown.verdict,
            "best": shown.headline,
            "alerts": shown.alerts,
            "figures": [f for f in shown.figures if f.name in _FIGURES],
        }
        for name, shown in zip(names, views, strict=True)
    ]
    settings = differences([run.recipe for run in runs])
    shown = {"names": names, "rows": rows, "charts": _charts(runs, names), "settings": settings}
    return fragment("compare.html", linked=linked, **shown)


def _names(runs: Sequence[Run]) -> list[str]:
    """Folders' names, with as much of the path as tells them apart."""
    paths = [run.folder.resolve() for run in runs]
    for parts in range(1, 12):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _charts(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    each = [(color, run, name) for color, (run, name) in enumerate(zip(runs, names, strict=True))]
    across = reach(runs)
    losses = [loss_of(run, name=name, color=c) for c, run, name in each]
    found = [make_chart("Training loss, smoothed", losses, across=across)]
    metrics = dict.fromkeys(metric for run in runs for metric in metric_names(run))
    for metric in ["loss", *list(metrics)[:_MOST_METRICS]]:
        series = [one for c, run, name in each for one in metric_of(run, metric, name=name, color=c)]
        found.append(make_chart(f"Evaluation: {metric_name(metric)}", series, across=across))
    return [chart for chart in found if chart is not None]
