"""`biject finetune`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from biject.cli.flags import Json, Switch, by_flags, names
from biject.cli.settings import put
from biject.config.recipe import FinetuneRecipe, FinetuneTask
from biject.config.recipe_file import make_recipe, read_recipe
from biject.errors import ConfigError, InputError
from biject.events import without_progress

_FLAGS = {
    "evaluate_every": "--eval-every",
    "r": "--rank",
    "lora_alpha": "--alpha",
    "target_modules": "--targets",
}
"""Where a flag has another name than its key."""
_Text = Annotated[str | None, Parameter(metavar="NAME")]
_Steps = Annotated[int | None, Parameter(metavar="STEPS")]
_Count = Annotated[int | None, Parameter(metavar="N")]


def finetune(
    *,
    out: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    recipe: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    model: Annotated[str | None, Parameter(metavar="REPO|DIR")] = None,
    data: Annotated[str | None, Parameter(metavar="FILE|REPO")] = None,
    eval_data: Annotated[str | None, Parameter(metavar="FILE|REPO")] = None,
    task: FinetuneTask | None = None,
    text_column: Annotated[str | None, Parameter(metavar="A[,B]")] = None,
    label_column: Annotated[str | None, Parameter(metavar="A[,B,…]")] = None,
    epochs: _Count = None,
    batch_size: _Count = None,
    lr: Annotated[float | None, Parameter(metavar="X")] = None,
    max_length: Annotated[int | None, Parameter(metavar="TOKENS")] = None,
    seed: _Count = None,
    precision: Literal["fp32", "bf16", "f16"] | None = None,
    checkpoint_every: _Steps = None,
    max_steps: _Steps = None,
    eval_every: _Steps = None,
    patience: _Count = None,
    accumulate: _Count = None,
    warmup: Annotated[float | None, Parameter(metavar="STEPS|SHARE")] = None,
    numerics: Literal["exact", "fast"] | None = None,
    delimiter: Annotated[str | None, Parameter(metavar="CHARACTER")] = None,
    skip_bad_rows: Switch = False,
    tag_scheme: Literal["IOB1", "IOB2", "IOE1", "IOE2", "IOBES", "BILOU"] | None = None,
    optimizer: Annotated[str | None, Parameter(metavar="NAME")] = None,
    sync: Literal["step", "cadence", "async"] | None = None,
    shard: Switch = False,
    method: Literal["full", "lora", "qlora"] | None = None,
    rank: Annotated[int | None, Parameter(metavar="R")] = None,
    alpha: Annotated[float | None, Parameter(metavar="X")] = None,
    targets: Annotated[str | None, Parameter(metavar="A[,B,…]")] = None,
    merge: Switch = False,
    backend: Literal["biject", "hf"] | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", metavar="KEY=VALUE")] = (),
    track: Annotated[str | None, Parameter(metavar="A[,B]")] = None,
    resume: Switch = False,
    preview: Annotated[int | None, Parameter(metavar="N")] = None,
    no_verify: Switch = False,
    quiet: Switch = False,
    verbose: Switch = False,
    json: Json = False,
) -> int:
    """Fine-tune a checkpoint on labelled text; what comes out is a verified Hugging Face folder.

    The folder DIR gets model/ (the best state), checkpoints/, run.toml (which repeats the run),
    events.jsonl, verify.json and report.html. The exit code is 1 where transformers does not load the
    model, or does not agree with it to the bit. Works under torchrun, too.

    Args:
        out: The run's folder; it must not exist yet, but for `--resume`. Only `--preview` does without.
        recipe: A TOML file with any setting; flags go before it.
        model: What to start from: a repository on the Hub, or a local folder.
        data: Rows: .csv, .tsv, .jsonl, .json, .txt, .parquet, .conll (.bio, .iob, .iob2), a folder of
            pictures, or a data set on the Hub.
        eval_data: Rows to evaluate on; left out, a tenth of the data is held out.
        task: The head to train, left out the checkpoint's own; it starts random where that has none.
        text_column: Column of the text, or of the prompt; two columns for pairs.
        label_column: Column of the label, or of the response.
        epochs: Passes over the data (3).
        batch_size: Samples that a device computes at once (32).
        lr: Peak learning rate (5e-5).
        max_length: Longer texts are cut there; left out, what the model takes.
        seed: Of order, dropout, split and new head (0).
        precision: What is computed in; weights are kept in fp32.
        checkpoint_every: Write a checkpoint every so many steps.
        max_steps: Optimizer steps, instead of `--epochs`.
        eval_every: Evaluate every so many steps; left out, once an epoch.
        patience: Stop after so many evaluations without a better one.
        accumulate: Batches that are added up before each step (1).
        warmup: Steps, or below 1 a share of all steps.
        numerics: `exact` leaves out only what keeps HF's bits; `fast` also what changes rounding.
        delimiter: Between the columns of a .csv file; left out, what the file plainly has.
        skip_bad_rows: Leave out rows that cannot be used, and say how many.
        tag_scheme: How labels spell entities; left out, as in conlleval.
        optimizer: adamw, adamw_torch, adam, sgd, adafactor, rmsprop, adagrad, nadam, radam; in 8 bits or
            paged: docs/recipe.md.
        sync: How processes under torchrun share the work: one step for all, or averages now and then.
        shard: Spread the model over the processes under torchrun (FSDP2), for one that fits no device.
        method: `full`, or an adapter beside the model: `lora`, `qlora` (base in 4 bits); RUN/adapter has it.
        rank: Of the adapter (8).
        alpha: Of the adapter: what it adds is scaled by alpha / rank (8).
        targets: Modules to adapt, by Hugging Face's names; `all-linear`; left out, as PEFT chooses.
        merge: Write model/ too, with the adapter in it.
        backend: `hf` trains transformers' own class: any of its architectures, without some of our gains.
        set_: Any other setting of a recipe, e.g. `--set train.weight_decay=0.1 --set stride=64`.
        track: Show the run in tensorboard, trackio, wandb or mlflow, too.
        resume: Resume the run in DIR from its latest checkpoint.
        preview: Train nothing and write nothing: print the first N samples, learned tokens in colour.
        no_verify: Leave out the proof of the exported model.
        quiet: No progress.
        verbose: Print what was proved, check by check.
    """
    given: dict[str, Any] = {
        "model": model,
        "data": data,
        "eval_data": eval_data,
        "task": task,
        "text_column": columns(text_column, flag="--text-column"),
        "label_column": columns(label_column, flag="--label-column"),
        "max_length": max_length,
        "numerics": numerics,
        "delimiter": delimiter,
        "skip_bad_rows": skip_bad_rows or None,
        "tag_scheme": tag_scheme,
        "method": method,
        "merge": merge or None,
        "backend": backend,
    }
    adapter: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "target_modules": _targets(targets)}
    train: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "precision": precision,
        "checkpoint_every": checkpoint_every,
        "max_steps": max_steps,
        "evaluate_every": eval_every,
        "patience": patience,
        "accumulate": accumulate,
        "warmup": warmup,
        "optimizer": optimizer,
    }
    typed = {name: value for name, value in {**given, **train, **adapter}.items() if value is not None}
    flags = {name: _FLAGS.get(name, f"--{name.replace('_', '-')}") for name in typed}
    tables: dict[str, dict[str, Any]] = {
        "train": train,
        "sync": {"mode": sync, "shard": shard or None},
        "adapter": adapter,
        "augment": {},
        "preference": {},
        "embed": {},
    }
    put(set_, into=given, **tables)
    values = _merged(recipe, out, given, tables, resume=resume)
    if out is None and preview is None:
        raise InputError("finetune needs --out DIR, the folder of the run, or --preview N.")
    if "task" not in values:
        from biject.runs.prepare import task_of

        values["task"] = task_of(
            values["model"], revision=values.get("revision"), backend=values.get("backend", "biject")
        )
    try:
        requested = make_recipe(values, where="The recipe" if recipe is None else str(recipe))
    except ConfigError as error:
        raise ConfigError(by_flags(str(error), flags)) from error

    from biject.cli.console import print_json, print_lines
    from biject.cli.interrupts import exit_code, stops_on_signals
    from biject.cli.ranks import only_first
    from biject.runs.finetune import finetune as run
    from biject.train.stopping import StopRequest

    if out is None or preview is not None:
        return _preview(requested, preview or 0, json=json)
    stopping = StopRequest()
    hidden = without_progress() if quiet else nullcontext()
    with only_first() as first, hidden, stops_on_signals(stopping):
        shown = first and not json
        result = run(
            requested,
            out=out,
            resume=resume,
            verify=not no_verify,
            verbose=verbose,
            log=(lambda line: print_lines([line])) if shown else None,
            stopping=stopping,
            track=names(track, flag="--track") or (),
        )
    if first and json:
        print_json(result.to_json())
    if result.stopped is not None:
        return exit_code(result.stopped) or exit_code("SIGTERM")
    return 0 if result.passed else 1


def _preview(recipe: FinetuneRecipe, count: int, *, json: bool) -> int:
    from biject.cli.console import print_json
    from biject.cli.preview import print_preview
    from biject.runs.preview import preview_recipe

    found = preview_recipe(recipe, count)
    if json:
        print_json(found.to_json())
    else:
        print_preview(found)
    return 0


def columns(value: str | None, *, flag: str) -> str | tuple[str, ...] | None:
    """One column's name, or several."""
    found = names(value, flag=flag)
    return found[0] if found is not None and len(found) == 1 else found


def _targets(value: str | None) -> str | tuple[str, ...] | None:
    """Names, or one expression: what has a mark that no name has."""
    if value is None or value.lower() == "all-linear" or any(mark in value for mark in "*+?[(|\\^$"):
        return value
    return names(value, flag="--targets")


def _merged(
    recipe: Path | None,
    out: Path | None,
    given: dict[str, Any],
    tables: dict[str, dict[str, Any]],
    *,
    resume: bool,
) -> dict[str, Any]:
    """The recipe's values, or those of the run to resume, under the flags that were given."""
    if recipe is None and resume and out is not None and (out / "run.toml").is_file():
        recipe = out / "run.toml"
    values = {} if recipe is None else read_recipe(recipe)
    values |= {name: value for name, value in given.items() if value is not None}
    for key, added in tables.items():
        table = values.get(key, {})
        if isinstance(table, dict):
            values[key] = table | {name: value for name, value in added.items() if value is not None}
    lacking = [f"--{name}" for name in ("model", "data") if name not in values]
    if lacking:
        raise InputError(f"finetune needs {', '.join(lacking)}, as a flag or in a --recipe.")
    return values
