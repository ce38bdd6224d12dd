"""Runs of four tasks, as small as they can be, and a browser to look at their pages with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.runs.finetune import finetune
from biject.verify.reference import make_reference

from .browser import CHROMIUM, Browser, browser

WORDS = ("quick", "lazy", "lost", "brown", "small")


def _rows(task: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for i in range(30):
        word = WORDS[i % 5]
        if task == "seqcls":
            found.append(
                {"text": f"the {word} fox <b>{i}</b>", "label": ("yes", "no", "it <depends>")[i % 3]}
            )
        elif task == "tokcls":
            words = ["Ada", "Moss", "saw", word, "Lune"]
            found.append({"tokens": words, "ner_tags": ["B-PER", "I-PER", "O", "O", ("B-LOC", "O")[i % 2]]})
        elif task == "qa":
            context = f"The {word} bridge was built by Ada Moss in {1900 + i}."
            answers = {"text": ["Ada Moss"], "answer_start": [context.index("Ada")]}
            found.append({"id": str(i), "question": "Who?", "context": context, "answers": answers})
        else:
            found.append({"text": f"the {word} fox jumps over the {WORDS[i % 3]} dog number {i}"})
    return found


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of a run for each task."""
    folder = tmp_path_factory.mktemp("runs")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    models = {name: make_reference(name, "base", folder / name) for name in ("bert",)}
    models["gpt2"] = make_reference("gpt2", "causal", folder / "gpt2")
    found = {}
    for task in ("seqcls", "tokcls", "qa", "causal"):
        data = folder / f"{task}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in _rows(task)))
        recipe = FinetuneRecipe(
            model=str(models["gpt2" if task == "causal" else "bert"]),
            data=str(data),
            task=task,  # type: ignore[arg-type]
            validation=0.3,
            max_length=32,
            train=TrainConfig(batch_size=4, epochs=5, lr=3e-3, evaluate_every=6),
        )
        found[task] = folder / f"run of {task}"
        finetune(recipe, out=found[task], verify=task == "seqcls")
    torch.set_num_threads(before)
    return found


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: `apt-get install chromium`")
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found
