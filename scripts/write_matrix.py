"""Writes the README's table of verified cells: `python scripts/write_matrix.py [REPORT.json]`.

Without a file it runs `biject verify-matrix --weights tiny --json` first; with one, it takes what that
command printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- matrix:begin -->", "<!-- matrix:end -->"


def measure() -> dict[str, Any]:
    """Run the matrix now; failures are part of the result."""
    command = [sys.executable, "-m", "biject.cli.main", "verify-matrix", "--weights", "tiny", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit("write_matrix: verify-matrix did not run; see above")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def table(matrix: dict[str, Any]) -> list[str]:
    """Markdown lines: families as rows, heads as columns, passed levels of those run in each cell."""
    cells = {(cell["family"], cell["head"]): cell for cell in matrix["cells"]}
    heads = list(dict.fromkeys(head for _, head in cells))
    rows = [["family", *heads], ["---"] * (len(heads) + 1)]
    families = dict.fromkeys(family for family, _ in cells)
    rows += [[family, *(mark(cells.get((family, head))) for head in heads)] for family in families]
    rows.append(["*LoRA*", *(_adapters(matrix, head) for head in heads)])
    return [f"| {' | '.join(row)} |" for row in rows]


def _adapters(matrix: dict[str, Any], head: str) -> str:
    """In how many families' cells with this head an adapter has PEFT's bits."""
    reports = [cell["report"] for cell in matrix["cells"] if cell["head"] == head]
    levels = [level for report in reports if report for level in report["levels"]]
    found = [level["status"] for level in levels if level["name"] == "adapter"]
    return f"{found.count('pass')}/{len(reports)}"


def mark(cell: dict[str, Any] | None) -> str:
    """`6/6`, or what failed."""
    if cell is None:
        return "–"
    if cell["report"] is None:
        return "FAIL (no report)"
    without = [level["name"] for level in cell["report"]["levels"] if level["status"] == "n/a"]
    levels = [level for level in cell["report"]["levels"] if level["status"] != "n/a"]
    passed = sum(level["status"] == "pass" for level in levels)
    failed = [level["name"] for level in levels if level["status"] != "pass"]
    words = f" (not {', '.join(failed)})" if failed else ""
    return f"{passed}/{len(levels)}{words}" + (f" ({', '.join(without)} n/a)" if without else "")


def note(matrix: dict[str, Any]) -> str:
    """Which levels, how many cells, measured with what."""
    reports = [cell["report"] for cell in matrix["cells"] if cell["report"]]
    levels = ", ".join(level["name"] for level in reports[0]["levels"])
    passed = sum(cell["passed"] for cell in matrix["cells"])
    environment = reports[0]["environment"]
    versions = environment.get("versions", environment)
    tools = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers") if name in versions)
    count = len(matrix["cells"])
    return f"{passed} of {count} cells pass every level ({levels}); {tools}, {matrix['weights']} weights."


def main() -> None:
    """Replace what stands between the markers."""
    given = sys.argv[1:]
    matrix = json.loads(Path(given[0]).read_text(encoding="utf-8")) if given else measure()
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    lines = "\n".join([*table(matrix), "", note(matrix)])
    README.write_text(f"{before}{BEGIN}\n{lines}\n{END}{after}", encoding="utf-8")
    print(f"{README.name}: {note(matrix)}")


if __name__ == "__main__":
    main()
