"""Writes the tables of docs/versions.md: `python scripts/write_versions.py REPORT.json` or `A,B,…`.

With releases it runs `biject verify-matrix --transformers A,B,… --json` first; with a file it takes what that
command printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs" / "versions.md"
BEGIN, END = "<!-- versions:begin -->", "<!-- versions:end -->"


def measure(releases: str) -> dict[str, Any]:
    """Watch releases now; differences are part of the result."""
    command = [sys.executable, "-m", "biject", "verify-matrix", "--transformers", releases, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit("write_versions: verify-matrix did not run; see above")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def tables(found: dict[str, Any]) -> str:
    """Heads that are equal in each release, what changed, and what becomes of the newest one's files."""
    header, *rows = found["table"]
    versions = [release["version"] for release in found["releases"]]
    about = found["about"]
    parts = [
        f"Written on {about['date']} by `biject verify-matrix --transformers {','.join(versions)}` (torch "
        f"{about['torch']}, Python {about['python']}, {about['threads']} threads, {about['machine']}).\n"
        "A cell: heads whose names, bytes and bits are ours, of those that the release has.",
        table([header[:-1], *(row[:-1] for row in rows)]),
        "What a release does otherwise than the one before it in the table:",
        table([["family", "what changed"], *([row[0], row[-1]] for row in rows)]),
        f"What becomes of a folder that {found['newest']} wrote and Biject exported,\n"
        "where a release loads or computes it otherwise than it is meant:",
        table([["release", "family", "what it does"], *newest(found)]),
    ]
    return "\n\n".join(parts)


def newest(found: dict[str, Any]) -> list[list[str]]:
    """Rows: release, family, the worst finding of each kind with its heads."""
    rows = []
    for release in found["releases"]:
        for family in dict.fromkeys(cell["family"] for cell in release["cells"]):
            cells = [cell for cell in release["cells"] if cell["family"] == family]
            if words := worst(cells):
                rows.append([release["version"], family, words])
    return rows or [["all", "all", "nothing"]]


def worst(cells: list[dict[str, Any]]) -> str:
    """`kind (heads): detail` of a family's cells."""
    grouped: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for cell in cells:
        for one in cell["of_newest"] or ():
            if one["kind"] != "padding":
                grouped.setdefault(one["kind"], []).append((cell["head"], one))
    words = []
    for kind, those in grouped.items():
        heads = ", ".join(dict.fromkeys(head for head, _ in those))
        most = max((one for _, one in those), key=lambda one: one["max_abs_diff"] or 0.0)
        words.append(f"{kind} ({heads}): {most['detail']}")
    return "; ".join(words)


def table(rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main() -> None:
    """Replace what stands between the markers."""
    given = sys.argv[1]
    is_file = Path(given).is_file()
    found = json.loads(Path(given).read_text(encoding="utf-8")) if is_file else measure(given)
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n{tables(found)}\n{END}{after}", encoding="utf-8")
    print(f"{PAGE.name}: {len(found['table']) - 1} families, {len(found['releases'])} releases")


if __name__ == "__main__":
    main()
