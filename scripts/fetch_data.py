"""Fetches the real sentences that demo, tests and benchmarks use: `python scripts/fetch_data.py`.

They are the movie-review snippets with human ratings that vaderSentiment's source package carries (C.J. Hutto
and E. Gilbert 2014, ICWSM; the texts are third parties'). Downloaded by pip, not installed; the sha256 sum is
checked; ends in `.cache/real/movie-snippets.csv`, which git does not know. Standard library only.
"""

from __future__ import annotations

import csv
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "real"
REQUIREMENT = "vaderSentiment==3.3.2"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
NUM_SNIPPETS = 10_605
COUNTS = {"negative": 5_076, "positive": 4_996}
MIN_SCORE = 0.5
"""Of -4 to 4, in magnitude: what people found neutral is left out."""


def fetch(target: Path = CACHE / "movie-snippets.csv") -> Path:
    """The file of sentences (columns `text`, `label`), fetched if it is not there yet."""
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as work:
        made = Path(work) / target.name
        made.write_bytes(_as_csv(_snippets(_download(Path(work)))))
        made.replace(target)
    return target


def _download(work: Path) -> Path:
    """The source package, its sum checked."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*command, "--dest", str(work), REQUIREMENT], check=True)
    (archive,) = work.glob("*.tar.gz")
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{archive.name} should have sha256 {SHA256}, found {found}")
    return archive


def _snippets(archive: Path) -> list[tuple[float, str]]:
    """Score and text of every snippet; nothing is unpacked to disk."""
    with tarfile.open(archive) as outer:
        inner = outer.extractfile(INNER)
        assert inner is not None
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as texts:
            member = texts.extractfile(MEMBER)
            assert member is not None
            lines = member.read().decode("utf-8").split("\r\n")
    rows = [line.split("\t") for line in lines if line]
    if len(rows) != NUM_SNIPPETS:
        raise SystemExit(f"{MEMBER} should have {NUM_SNIPPETS} snippets, found {len(rows)}")
    return [(float(score), text) for _, score, text in rows]


def _as_csv(snippets: list[tuple[float, str]]) -> bytes:
    kept = [
        (text, "positive" if score > 0 else "negative") for score, text in snippets if abs(score) >= MIN_SCORE
    ]
    found = Counter(label for _, label in kept)
    if found != COUNTS:
        raise SystemExit(f"{MEMBER} should give {COUNTS}, found {dict(found)}")
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("text", "label"))
    writer.writerows(kept)
    return out.getvalue().encode()


if __name__ == "__main__":
    print(fetch().relative_to(ROOT))
