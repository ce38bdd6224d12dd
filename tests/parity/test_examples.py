"""The examples run as they are, and say what the documentation says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from parity.real import real_folder

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*arguments: object) -> str:
    if not EXAMPLES.is_dir():
        pytest.skip("an installed package has no examples")
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", [pytest.param("all-MiniLM-L6-v2", marks=pytest.mark.slow), "bert-tiny-mlm"])
def test_ten_sentences(name: str, tmp_path: Path) -> None:
    said = run(EXAMPLES / "ten_sentences.py", real_folder(name), tmp_path / "out")
    losses = [float(loss) for loss in re.findall(r"step \d  (\d\.\d+)", said)]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    assert "bit-exact (max abs diff = 0) [prompt]" in said
    assert "VERDICT PASS the export" in said
    assert (tmp_path / "out" / "model.safetensors").is_file()
    if name == "all-MiniLM-L6-v2":
        (glad_before, glad), (sad_before, sad) = re.findall(r"(\d\.\d+) -> (\d\.\d+)", said)
        assert float(glad) > float(glad_before)
        assert float(sad) < float(sad_before)


@pytest.mark.parametrize("name", [pytest.param("all-MiniLM-L6-v2", marks=pytest.mark.slow), "bert-tiny-mlm"])
def test_embeddings_find_more_than_before(name: str, tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    import numpy as np

    import biject

    said = run(EXAMPLES / "embeddings.py", real_folder(name), tmp_path / "out")
    for before, after in re.findall(r"(0\.\d+) -> (0\.\d+)", said):
        assert float(after) > float(before) + 0.02
    assert said.count(" -> ") == 3
    model, texts = tmp_path / "out" / "model", ["insert (pos, child)", "Return true if it is mapped."]
    theirs = sentence_transformers.SentenceTransformer(str(model), device="cpu").encode(texts)
    assert np.abs(theirs - biject.EmbeddingModel.from_pretrained(model).encode(texts)).max() <= 1e-6


@pytest.mark.slow
def test_pictures_are_told_apart(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    config = transformers.ViTConfig(**sizes, image_size=8, patch_size=2, num_channels=1)
    transformers.ViTModel(config).save_pretrained(tmp_path / "vit")
    settings = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}}
    settings |= {"image_mean": [0.5], "image_std": [0.5]}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(settings))
    said = run(EXAMPLES / "pictures.py", tmp_path / "vit", tmp_path / "out")
    (found,) = re.findall(r"accuracy (\d\.\d+)", said.splitlines()[-1])
    assert float(found) > 0.8


def test_own_module() -> None:
    errors = [float(error) for error in re.findall(r"errors (\d\.\d+)", run(EXAMPLES / "own_module.py"))]
    assert len(errors) == 8
    assert errors[-1] < 0.5 * errors[0]


def ran(name: str, *arguments: object) -> str:
    """What an example says of the small masked-LM checkpoint; its loss went down."""
    said = run(EXAMPLES / f"{name}.py", real_folder("bert-tiny-mlm"), *arguments)
    losses = re.search(r"loss (\d+\.\d+) -> (\d+\.\d+)", said)
    assert losses is None or float(losses[2]) < 0.7 * float(losses[1])
    return said


def test_examples_are_short() -> None:
    if not EXAMPLES.is_dir():
        pytest.skip("an installed package has no examples")
    for path in EXAMPLES.glob("*.py"):
        limit = 90 if path.name == "ten_sentences.py" else 40
        assert len(path.read_text().splitlines()) <= limit, path.name


def test_own_loss() -> None:
    assert "by the smallest loss" in ran("own_loss")


def test_own_metric() -> None:
    assert "by the largest recall_of_sad" in ran("own_metric")


def test_question_answering(tmp_path: Path) -> None:
    said = ran("question_answering", tmp_path / "out")
    assert said.splitlines()[-3:] == [
        "Who built the bridge? Ada Moss",
        "When was the bridge built? 1894",
        "What is crossed? Lune",
    ]


def test_regression(tmp_path: Path) -> None:
    said = ran("regression", tmp_path / "out")
    stars = [float(found) for found in re.findall(r"': (\d\.\d)", said)]
    assert stars == sorted(stars)
    assert len(stars) == 5


def test_multi_label(tmp_path: Path) -> None:
    said = ran("multi_label", tmp_path / "out")
    assert "the soup was cold and the waiter rude ['food', 'service']" in said
    assert "we came by bus []" in said


def test_named_entities(tmp_path: Path) -> None:
    said = ran("named_entities", tmp_path / "out")
    assert "by the largest f1" in said
    assert "LOC lune" in said
