"""`biject plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from biject.cli.finetune import columns
from biject.cli.flags import Json, Switch
from biject.cli.settings import put
from biject.config.recipe import FinetuneTask
from biject.config.recipe_file import TABLES, make_recipe, read_recipe
from biject.errors import InputError


def plan(
    *,
    recipe: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    model: Annotated[str | None, Parameter(metavar="REPO|DIR")] = None,
    data: Annotated[str | None, Parameter(metavar="FILE|REPO")] = None,
    task: FinetuneTask | None = None,
    method: Literal["full", "lora", "qlora"] | None = None,
    quantization: Literal["none", "nf4", "fp4", "int8"] | None = None,
    text_column: Annotated[str | None, Parameter(metavar="A[,B]")] = None,
    label_column: Annotated[str | None, Parameter(metavar="A[,B,…]")] = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", metavar="KEY=VALUE")] = (),
    no_verify: Switch = False,
    devices: Switch = False,
    json: Json = False,
) -> int:
    """Tell whether a fine-tuning run is allowed, how long it takes and whether it fits.

    No weight is read: the data are tokenised, steps are counted, memory is computed by the formula of
    docs/plan.md, and a part of the model with random weights is timed for a few seconds. The exit code
    is 2 where the run is refused, and 1 where it does not fit into memory.

    Args:
        recipe: A TOML file with any setting; flags go before it.
        model: What to start from: a repository on the Hub, or a local folder.
        data: Rows: .csv, .tsv, .jsonl, .json, .txt, .parquet, .conll (.bio, .iob, .iob2), a folder of
            pictures, or a data set on the Hub.
        task: The head to train, left out the checkpoint's own.
        method: Train every parameter, or an adapter; `qlora` beside a quantised base.
        quantization: Of the base's matrices; left out nf4 for `qlora`.
        text_column: Column of the text, or of the prompt; two columns for pairs.
        label_column: Column of the label, or of the response.
        set_: Any other setting of a recipe, e.g. `--set train.batch_size=8`.
        no_verify: Plan a run that does not verify its model at the end.
        devices: Time a step on every device of this machine, and tell what sharing by speed would give.
    """
    values: dict[str, Any] = {} if recipe is None else read_recipe(recipe)
    given: dict[str, Any] = {
        "model": model,
        "data": data,
        "task": task,
        "method": method,
        "text_column": columns(text_column, flag="--text-column"),
        "label_column": columns(label_column, flag="--label-column"),
    }
    tables: dict[str, dict[str, Any]] = {name: {} for name in TABLES}
    put(set_, into=given, **tables)
    values |= {name: value for name, value in given.items() if value is not None}
    values |= {name: {**values.get(name, {}), **table} for name, table in tables.items() if table}
    lacking = [f"--{name}" for name in ("model", "data") if name not in values]
    if lacking:
        raise InputError(f"plan needs {', '.join(lacking)}, as a flag or in a --recipe.")
    if quantization not in (None, "none") and values.get("method") == "qlora":
        values["quantization"] = quantization
    if "task" not in values:
        from biject.runs.prepare import task_of

        values["task"] = task_of(values["model"], revision=values.get("revision"))
    asked = make_recipe(values, where="The recipe" if recipe is None else str(recipe))

    from biject.cli.console import print_json, print_lines
    from biject.runs.plan import plan_recipe

    found = plan_recipe(asked, quantization=quantization, proof=not no_verify, devices=devices)
    if json:
        more = {} if found.devices is None else {"devices": found.devices.to_json()}
        print_json(found.plan.to_json() | more)
    else:
        print_lines(_lines(found))
    if not found.plan.allowed:
        return 2
    return 1 if found.plan.fits is False else 0


def _lines(found: Any) -> list[str]:
    """A few lines for people."""
    from biject.cli.console import format_bytes

    plan, memory = found.plan, found.memory
    if not plan.allowed:
        return [f"REFUSED {reason}" for reason in plan.reasons]
    parts = {"this process and torch's kernels": found.process_bytes, **memory.parts()}
    listed = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items() if size)
    free = "unknown" if found.available is None else format_bytes(found.available)
    fit = {True: "FITS", False: "DOES NOT FIT", None: "NOT KNOWN TO FIT"}[plan.fits]
    return [
        "ALLOWED",
        f"STEPS {plan.steps}; {plan.truncated_rows} rows are cut; padded batches would have "
        f"{plan.padded_over_real:.2f} times the tokens of the texts",
        f"TIME {_duration(plan.seconds)}, by a measured part of the model",
        f"PEAK {format_bytes(plan.peak_bytes)}: {listed}",
        f"{fit} available: {free}",
        *_devices(found.devices),
    ]


def _devices(devices: Any) -> list[str]:
    """A line for each, and one for their sharing."""
    from biject.cli.console import format_bytes

    if devices is None:
        return []
    lines = []
    for one in devices.found:
        free = "" if one.free_bytes is None else f", {format_bytes(one.free_bytes)} free"
        rate = "does not fit" if one.step_seconds is None else f"{one.tokens_per_second:,.0f} tokens/s"
        lines.append(f"DEVICE {one.name} ({one.what}{free}): {rate}")
    sharing, helper = devices.sharing, devices.helper
    if helper is not None:
        verdict = "pays" if helper.pays else "does not pay"
        lines.append(
            f"CPU beside the GPU {verdict}: a step of {1000 * helper.step_seconds:.0f} ms, of which "
            f"{1000 * helper.exchange_seconds:.0f} ms exchange, in place of "
            f"{1000 * helper.without_seconds:.0f} ms"
        )
    if sharing is None:
        return [*lines, "SHARES none: there are no two devices that should train this together"]
    parts = ", ".join(
        f"{name} {part:.0%}" for name, part in zip(sharing.devices, sharing.shares, strict=True)
    )
    return [
        *lines,
        f"SHARES by speed: {parts}; {sharing.over_fastest:.2f} times the fastest alone, "
        f"{sharing.over_equal:.2f} times equal shares, before the exchange of "
        f"{format_bytes(sharing.exchange_bytes)} a step: worth it where that takes less than "
        f"{1000 * sharing.worth_below_seconds:.0f} ms",
    ]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown: what would be measured does not fit"
    if seconds < 120:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 7200 else f"about {seconds / 3600:.1f} h"
