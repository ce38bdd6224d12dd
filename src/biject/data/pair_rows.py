"""Rows of preferences: a prompt, a chosen and a rejected continuation; texts, or messages.

The forms are those of TRL's preference data sets (trl 1.16, data_utils.py: `is_conversational`,
`maybe_extract_prompt`, `extract_prompt`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biject.data.conversations import read_messages, read_tools
from biject.data.table import Rows
from biject.data.texts import TextColumn, check_text
from biject.errors import InputError, shown

Messages = tuple[Mapping[str, Any], ...]
Side = str | Messages
"""A text, or messages."""

_PROMPT, _CHOSEN, _REJECTED, _MARGIN = "prompt", "chosen", "rejected", "margin"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One preference; all three sides are texts, or all are messages.

    Attributes:
        prompt: What both sides go on from; empty where they share nothing.
        chosen: The better continuation.
        rejected: The worse one.
        tools: That were at hand.
    """

    prompt: Side
    chosen: Side
    rejected: Side
    tools: Sequence[Any] | None = None


@dataclass(frozen=True, kw_only=True)
class PairColumns:
    """Which columns hold what; without a `prompt` it is what chosen and rejected begin with alike."""

    prompt: str | None
    chosen: str
    rejected: str


def find_columns(
    rows: Rows, *, text_column: TextColumn | None = None, label_column: TextColumn | None = None
) -> PairColumns:
    """The columns of a table of preferences.

    Args:
        rows: The table.
        text_column: Of prompts; left out, `prompt` where that is there.
        label_column: Of chosen and rejected texts; left out, `chosen` and `rejected`.

    Raises:
        InputError: One of the columns is not there.
    """
    names = _names(label_column) or (_CHOSEN, _REJECTED)
    if len(names) != 2:
        raise InputError(f"label_column: expected two columns, chosen and rejected; found {len(names)}.")
    lacking = [name for name in names if name not in rows.columns]
    if lacking:
        raise InputError(
            f"{rows.source} has no column {' and no '.join(f'`{name}`' for name in lacking)}; it has "
            f"{rows.named()}. Pairs need `chosen` and `rejected`, and may have a `prompt`; other names are "
            "given as label_column (--label-column CHOSEN,REJECTED) and text_column (--text-column PROMPT)."
        )
    prompts = _names(text_column)
    if len(prompts) > 1:
        raise InputError(f"text_column: expected one column of prompts, found {len(prompts)}.")
    if prompts:
        rows.column(prompts[0])
    found = prompts[0] if prompts else _PROMPT if _PROMPT in rows.columns else None
    return PairColumns(prompt=found, chosen=names[0], rejected=names[1])


def _names(column: TextColumn | None) -> tuple[str, ...]:
    return () if column is None else (column,) if isinstance(column, str) else tuple(column)


def is_conversational(rows: Rows, columns: PairColumns) -> bool:
    """Whether the sides are messages, by the first row (as TRL decides)."""
    value = rows[0].get(columns.chosen)
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return False
    return isinstance(value, list)


def read_pair(rows: Rows, row: int, columns: PairColumns, *, messages: bool, split: bool) -> Pair:
    """The preference of one row.

    Args:
        rows: The table.
        row: Which one.
        columns: Of the table.
        messages: The sides are messages.
        split: Take what both sides begin with as the prompt, where the row has none.

    Raises:
        InputError: What is wrong in which row and column.
    """
    read = _read_messages if messages else _read_text
    chosen, rejected = (read(rows, row, name) for name in (columns.chosen, columns.rejected))
    if chosen == rejected:
        raise rows.fault(
            row,
            columns.rejected,
            f"the same as `{columns.chosen}`: there is no preference to learn. Leave the row out.",
        )
    prompt: Side | None = None
    if columns.prompt is not None and not (messages and isinstance(rows[row].get(columns.prompt), str)):
        prompt = read(rows, row, columns.prompt)  # a text beside messages repeats what these begin with
    if prompt is None and split:
        prompt, chosen, rejected = extract_prompt(chosen, rejected)
        if messages and not prompt:
            raise rows.fault(
                row,
                columns.chosen,
                f"expected messages that begin like those of `{columns.rejected}`, which is then the "
                "prompt; the first one differs already. Give the prompt's messages as `prompt`.",
            )
    tools = read_tools(rows, row) if messages else None
    return Pair(prompt="" if prompt is None else prompt, chosen=chosen, rejected=rejected, tools=tools)


def _read_text(rows: Rows, row: int, column: str) -> Side:
    value = _value(rows, row, column)
    if isinstance(value, list):
        raise rows.fault(row, column, "expected a text as in the first row, found a list.")
    check_text(rows, row, column, value)
    return str(value)


def _read_messages(rows: Rows, row: int, column: str) -> Side:
    return read_messages(rows, row, column, _value(rows, row, column))


def _value(rows: Rows, row: int, column: str) -> Any:
    record = rows[row]
    if record.get(column) is None:
        raise rows.fault(row, column, "expected a text or messages, found none.")
    return record[column]


def extract_prompt(chosen: Side, rejected: Side) -> tuple[Side, Side, Side]:
    """What two texts (or lists of messages) begin with alike, and what is left of each.

    As in TRL: a space before the difference belongs to what is left, and at least one letter (or message)
    of the shorter side is left. Where nothing is alike the prompt is empty.
    """
    place = 0
    for place in range(min(len(chosen), len(rejected))):  # `place` is used afterwards
        if chosen[place] != rejected[place]:
            place -= place > 0 and chosen[place - 1] == " "
            break
    return chosen[:place], chosen[place:], rejected[place:]


def read_margins(rows: Rows) -> list[float] | None:
    """By how much each chosen text is better, where the table has a column `margin`.

    Raises:
        InputError: One is no number.
    """
    if _MARGIN not in rows.columns:
        return None

    def read(row: int, value: Any) -> float:
        try:
            number = float("nan") if isinstance(value, bool) or value is None else float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not abs(number) < float("inf"):
            raise rows.fault(row, _MARGIN, f"expected a number, found {shown(value)}.")
        return number

    return rows.each(rows.column(_MARGIN), read)
