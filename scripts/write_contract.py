"""Write the contract's tables into docs/plan.md: which cells are allowed, and why others are not. `make api`;
a test holds the page current.
"""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path
from typing import Any, get_args

from biject.plan.cell import Cell, Lack, axes
from biject.plan.contract import RULES, decide

PAGE = Path(__file__).parents[1] / "docs" / "plan.md"
BEGIN, END = "<!-- contract:begin -->", "<!-- contract:end -->"
PLAIN: dict[str, Any] = {"family": "bert"}
"""The cell around those of a table: nothing speaks against it."""
TABLES = (
    ("method", "quantization", {}),
    ("family", "task", {}),
    ("device", "quantization", {"method": "qlora"}),
    ("tokenizer", "task", {}),
)
"""Rows, columns, and what else is set."""


class Reasons:
    """The rules that refuse, each with the first reason that it gave."""

    def __init__(self) -> None:
        self.first: dict[int, str] = {}

    def mark(self, cell: Cell) -> str:
        """`yes`, or the numbers of the rules that speak against a cell."""
        found = {number: rule.reason(cell) for number, rule in enumerate(RULES, 1)}
        against = {number: reason for number, reason in found.items() if reason is not None}
        assert decide(cell).reasons == tuple(against.values())
        for number, reason in against.items():
            self.first.setdefault(number, reason)
        return "yes" if not against else "no: " + ", ".join(map(str, against))


def tables() -> str:
    """All tables, then the reasons, then how many cells there are."""
    reasons, parts = Reasons(), []
    for rows, columns, given in TABLES:
        lines = [[f"{rows} \\ {columns}", *axes()[columns]], ["---"] * (1 + len(axes()[columns]))]
        for row in axes()[rows]:
            marks = (_cell(reasons, {rows: row, columns: column}, given) for column in axes()[columns])
            lines.append([row, *marks])
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    parts.append(
        "Whatever else a cell is, it is refused for what is not there:\n\n" + "\n".join(_lacking(reasons))
    )
    parts.append("The rules, each with a reason as it gives it:\n\n" + "\n".join(_rules(reasons)))
    allowed, total = count()
    parts.append(
        f"{allowed:,} of {total:,} cells are allowed ({' × '.join(axes())}). No rule looks at "
        f"{' and '.join(free())}: each {_singular()} goes with everything."
    )
    return "\n\n".join(parts)


def free() -> list[str]:
    """Axes that no rule looks at."""
    used = {axis for rule in RULES for axis in rule.axes}
    return [axis for axis in axes() if axis not in used]


def count() -> tuple[int, int]:
    """Allowed cells, and all of them."""
    spread = {axis: values for axis, values in axes().items() if axis not in free()}
    times = math.prod(len(axes()[axis]) for axis in free())
    cells = [Cell(**dict(zip(spread, values, strict=True))) for values in itertools.product(*spread.values())]
    return times * sum(decide(cell).allowed for cell in cells), times * len(cells)


def _cell(reasons: Reasons, own: dict[str, str], given: dict[str, str]) -> str:
    values = {**PLAIN, **given, **own}
    if own.get("task") == "causal" and "family" not in own:
        values["family"] = "gpt2"
    if "quantization" in own and "method" not in own and own["quantization"] == "none":
        values["method"] = "lora"
    return reasons.mark(Cell(**values))


def _lacking(reasons: Reasons) -> list[str]:
    """A line for each lack, with the cell that shows it."""
    shows: dict[str, dict[str, Any]] = {
        "device": {"device": "cuda"},
        "bitsandbytes": {"method": "qlora", "quantization": "nf4"},
        "mask token": {"task": "mlm"},
        "pad_token_id": {"family": "gpt2", "task": "seqcls"},
    }
    lines = []
    for lack in get_args(Lack):
        mark = reasons.mark(Cell(**{**PLAIN, **shows[lack], "lacks": frozenset([lack])}))
        lines.append(f"- no {lack}: {mark}")
    return lines


def _rules(reasons: Reasons) -> list[str]:
    reasons.mark(Cell(**{**PLAIN, "family": "t5"}))
    lines = [
        f"{number}. by {', '.join(rule.axes)}: {reasons.first[number]}"
        for number, rule in enumerate(RULES, 1)
    ]
    assert len(reasons.first) == len(RULES), "a rule that no table shows"
    return lines


def _singular() -> str:
    return " and each ".join(free())


def page(text: str) -> str:
    """The page with the tables of today between its markers."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
