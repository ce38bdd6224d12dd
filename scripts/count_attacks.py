"""Runs every attack and writes how many were tried and right into docs/verify.md: `make attacks`.

With files, the `pytest --junitxml` of runs that were made already are counted instead; no test may be in two.

A test is an attack by the marker `attack("what is attacked")`, its own or its module's. The exit code is 1
where one did not end as it must.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "verify.md"
BEGIN, END = "<!-- attacks:begin -->", "<!-- attacks:end -->"


def run(results: Path) -> None:
    """Run the attacks, slow ones too; the outcome of each is in `results` (JUnit's XML)."""
    results.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "-m",
        "attack",
        f"--junitxml={results}",
        "tests",
    ]
    if subprocess.run(command, cwd=ROOT, check=False).returncode not in (0, 1):
        raise SystemExit("count_attacks: the tests did not run; see above")


def counted(results: list[Path]) -> tuple[Counter[str], Counter[str]]:
    """Tried and right, by what is attacked; skipped ones were not tried."""
    tried: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for case in (case for one in results for case in ElementTree.parse(one).iter("testcase")):
        if case.find("skipped") is not None:
            continue
        wrong = case.find("failure") is not None or case.find("error") is not None
        for kind in case.findall("properties/property[@name='attack']"):
            tried[kind.attrib["value"]] += 1
            right[kind.attrib["value"]] += not wrong
    return tried, right


def table(tried: Counter[str], right: Counter[str]) -> str:
    """Markdown, a line for each kind and one for all."""
    rows = [f"| {kind} | {tried[kind]} | {right[kind]} |" for kind in sorted(tried)]
    total = f"| all | {tried.total()} | {right.total()} |"
    return "\n".join(["| attacked | tried | right |", "| --- | --- | --- |", *rows, total])


def main() -> int:
    """Run, count, write."""
    results = [Path(one) for one in sys.argv[1:]]
    if not results:
        results = [ROOT / "build" / "attacks.xml"]
        run(results[0])
    tried, right = counted(results)
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table(tried, right)}\n{END}{after}")
    print(f"{right.total()} of {tried.total()} attacks ended as they must")
    return int(tried != right or not tried)


if __name__ == "__main__":
    sys.exit(main())
