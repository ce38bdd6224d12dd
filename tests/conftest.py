"""Small made data for every task of training, in words that the reference tokenizer knows."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

GOOD, BAD = ("good", "happy", "yes", "capital"), ("lazy", "lost", "no", "never")
FILLERS = ("the", "quick", "fox", "model", "is", "a", "one", "bytes", "people", "films")
TAGS = ("O", "B-LOC", "I-LOC")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a test attacks goes into its report: `make attacks` counts by it."""
    for item in items:
        for marker in item.iter_markers("attack"):
            item.user_properties.append(("attack", marker.args[0]))


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the probe measures is kept in the session's folder, never in the user's."""
    before = os.environ.get("BIJECT_CACHE")
    os.environ["BIJECT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["BIJECT_CACHE"]
    else:
        os.environ["BIJECT_CACHE"] = before


@pytest.fixture
def write_data() -> Callable[..., Path]:
    """`write_data(folder, task, count=40)` writes a file of rows and gives its path."""
    return _write


def _pictures(folder: Path, count: int) -> Path:
    """Two classes, bright and dark, in a folder each."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for index in range(count):
        label = ("bright", "dark")[index % 2]
        (folder / label).mkdir(parents=True, exist_ok=True)
        low = 140 if label == "bright" else 0
        pixels = draw.integers(low, low + 110, (24, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / label / f"{index}.png")
    return folder


def texts(count: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """Sentences with a word that decides their label."""
    chance = random.Random(seed)
    rows = []
    for index in range(count):
        label = ("negative", "positive")[index % 2]
        words = [chance.choice(FILLERS) for _ in range(chance.randint(3, 9))]
        words.insert(chance.randrange(len(words)), chance.choice(BAD if label == "negative" else GOOD))
        rows.append((" ".join(words), label))
    return rows


def _write(folder: Path, task: str, count: int = 40) -> Path:
    """A file of rows for a task."""
    folder.mkdir(parents=True, exist_ok=True)
    if task == "seqcls":
        path = folder / "rows.csv"
        lines = [f"{text},{label}" for text, label in texts(count)]
        path.write_text("\n".join(["text,label", *lines]) + "\n")
        return path
    if task == "imgcls":
        return _pictures(folder / "pictures", count)
    path = folder / f"{task}.jsonl"
    make = {"tokcls": _tagged, "qa": _asked, "mlm": _plain, "dpo": _preferred, "reward": _preferred,
            "embed": _paired, "rerank": _judged}  # fmt: skip
    rows = [make[task](text) for text, _ in texts(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _paired(text: str) -> dict[str, object]:
    return {"anchor": text, "positive": " ".join(reversed(text.split()))}


def _judged(text: str) -> dict[str, object]:
    return {
        "query": " ".join(text.split()[-2:]),
        "document": text,
        "score": float(any(word in text for word in GOOD)),
    }


def _tagged(text: str) -> dict[str, object]:
    words = text.split()
    marks = [int(word in GOOD + BAD) for word in words]
    tags = [TAGS[0] if not m else TAGS[2] if i and marks[i - 1] else TAGS[1] for i, m in enumerate(marks)]
    return {"tokens": words, "ner_tags": tags}


def _asked(text: str) -> dict[str, object]:
    answer = text.split()[1]
    return {
        "question": "what is it ?",
        "context": text,
        "answers": {"text": [answer], "answer_start": [text.index(f" {answer}") + 1]},
    }


def _plain(text: str) -> dict[str, object]:
    return {"text": text}


def _preferred(text: str) -> dict[str, object]:
    first, *rest = text.split()
    return {"prompt": first, "chosen": f" {' '.join(rest)}", "rejected": f" no {' '.join(rest[:2])} never"}
