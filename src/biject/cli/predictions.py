"""Predictions as one JSON document or as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from biject.cli.console import print_document, print_json, print_lines
from biject.cli.terminal import cell, stdout
from biject.cli.text_columns import Item
from biject.cli.texts import Inputs

_COLUMNS = {
    "fill-mask": ("token_str", "score", "sequence"),
    "classify": ("label", "score"),
    "classify-pictures": ("label", "score"),
    "tag": ("entity", "word", "start", "end", "score"),
    "answer": ("answer", "score", "start", "end"),
    "embed": ("size", "vector"),
}
_TITLES = {"token_str": "token"}
_SHOWN_VALUES = 6
_MIN_CHARACTERS = 12


def print_predictions(
    folder: str, task: str, inputs: Inputs, results: Sequence[Any], *, as_json: bool
) -> None:
    """`results` belong to the items, one each."""
    values = [result.tolist() if task == "embed" else result for result in results]
    if as_json:
        for line in _json_lines(folder, task, inputs, values):
            print_document(line)
        return
    table = Table(_input(task), *(_TITLES.get(name, name) for name in _COLUMNS[task]))
    table.columns[0].min_width = _MIN_CHARACTERS
    for column in table.columns:
        column.overflow = "fold"
    for item, value in zip(inputs.items, values, strict=True):
        for place, row in enumerate(_rows(task, value)):
            table.add_row(cell(_text(item) if place == 0 else ""), *map(cell, row))
        table.add_section()
    stdout().print(table)


def print_written(folder: str, task: str, out: Path, count: int, *, as_json: bool) -> None:
    """What went to a file instead."""
    if as_json:
        print_json({"model": folder, "task": task, "out": str(out), "rows": count})
    else:
        print_lines([f"WROTE {count} rows to {out}"])


def _json_lines(folder: str, task: str, inputs: Inputs, values: Sequence[Any]) -> Iterator[str]:
    """One document, with one text a line, so that it stays readable where vectors are long."""
    head = json.dumps({"model": folder, "task": task}, ensure_ascii=False)
    yield f'{head[:-1]}, "results": ['
    for place, (item, value) in enumerate(zip(inputs.items, values, strict=True)):
        record: dict[str, Any] = {_input(task): item if isinstance(item, str) else item[0]}
        if isinstance(item, tuple):
            record["pair"] = item[1]
        if others := inputs.others(place):
            record["row"] = others
        line = json.dumps({**record, "result": value}, ensure_ascii=False, default=str)
        yield f"  {line}{',' if place + 1 < len(values) else ''}"
    yield "]}"


def _rows(task: str, value: Any) -> Iterator[list[str]]:
    names = _COLUMNS[task]
    if task == "embed":
        more = ", …" if len(value) > _SHOWN_VALUES else ""
        yield [str(len(value)), ", ".join(f"{x:.4f}" for x in value[:_SHOWN_VALUES]) + more]
        return
    flat = [row for entry in value for row in (entry if isinstance(entry, list) else [entry])]
    for row in flat:
        yield [_shown(row.get(name, row.get(f"{name}_group"))) for name in names]
    if not flat:
        yield ["–"] * len(names)


def _input(task: str) -> str:
    """What an item is called."""
    return "picture" if task == "classify-pictures" else "text"


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _text(item: Item) -> str:
    return item if isinstance(item, str) else " | ".join(item)
