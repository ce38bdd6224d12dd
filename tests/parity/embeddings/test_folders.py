"""Folders of sentence-transformers come in with its vectors, and it opens what is written with equal ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from biject.errors import BijectError
from biject.tasks.encoder import EmbeddingModel
from parity.embeddings.conftest import opened
from parity.real import real_folder
from parity.test_pipelines import SENTENCES, TEXTS

Wrap = Callable[..., Path]
TOLERANCE = 2e-6  # both round by batch: theirs is padded to other lengths than ours
DENSE = {"out_features": 12, "activation_function": torch.nn.Tanh()}


def equal(ours: EmbeddingModel, theirs: Any, **how: Any) -> None:
    mine, hers = ours.encode(list(TEXTS), **how), theirs.encode(list(TEXTS), **how)
    assert mine.shape == hers.shape
    assert mine.dtype == np.float32
    assert np.abs(mine - hers).max() <= TOLERANCE * max(1.0, float(np.abs(hers).max()))


@pytest.mark.parametrize(
    "pooling", ["cls", "max", "weightedmean", "lasttoken", ("mean", "cls"), "mean_sqrt_len_tokens"]
)
def test_in_and_out(pooling: Any, wrapped: Wrap, tmp_path: Path) -> None:
    theirs = wrapped("bert", pooling=pooling, normalize=True)
    ours = EmbeddingModel.from_pretrained(theirs)
    equal(ours, opened(theirs))
    ours.save_pretrained(tmp_path / "ours")
    equal(ours, opened(tmp_path / "ours"))
    equal(EmbeddingModel.from_pretrained(tmp_path / "ours"), opened(theirs))


SLOW = ("distilbert", "roberta", "deberta-v2")


@pytest.mark.parametrize(
    "family", ["modernbert", "qwen3", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_families(family: str, wrapped: Wrap, tmp_path: Path) -> None:
    theirs = wrapped(family, pooling="lasttoken" if family == "qwen3" else "mean")
    ours = EmbeddingModel.from_pretrained(theirs)
    equal(ours, opened(theirs))
    ours.save_pretrained(tmp_path / "ours")
    equal(ours, opened(tmp_path / "ours"))


@pytest.mark.parametrize(
    "dense",
    [
        (DENSE,),
        ({**DENSE, "activation_function": torch.nn.Identity(), "bias": False},),
        (
            {**DENSE, "use_residual": True},
            {"out_features": 12, "use_residual": True, "activation_function": torch.nn.GELU()},
        ),
    ],
)
def test_dense(dense: tuple[dict[str, Any], ...], wrapped: Wrap, tmp_path: Path) -> None:
    theirs = wrapped("bert", dense=dense, normalize=True)
    ours = EmbeddingModel.from_pretrained(theirs)
    equal(ours, opened(theirs))
    with torch.no_grad():
        next(ours.task.dense[0].parameters())[:3].mul_(1.5)
    ours.save_pretrained(tmp_path / "ours")
    assert not (tmp_path / "ours" / "adapters").exists()
    equal(ours, opened(tmp_path / "ours"))
    assert np.abs(ours.encode(TEXTS[0]) - opened(theirs).encode(TEXTS[0])).max() > 1e-3


@pytest.mark.parametrize("include_prompt", [True, False])
def test_prompts(include_prompt: bool, wrapped: Wrap, tmp_path: Path) -> None:
    """By name, by text, by default, and what `encode_query` finds; counted by pooling or not."""
    prompts = {"query": "paris is ", "passage": "the ", "other": "a b c "}
    theirs = wrapped("bert", include_prompt=include_prompt, prompts=prompts, default_prompt_name="other")
    ours = EmbeddingModel.from_pretrained(theirs)
    for folder in (theirs, tmp_path / "ours"):
        if not folder.is_dir():
            ours.save_pretrained(folder)
        hers = opened(folder)
        for how in ({}, {"prompt_name": "query"}, {"prompt": "in "}):
            equal(ours, hers, **how)
        for name in ("encode_query", "encode_document"):
            mine = getattr(ours, name)(list(TEXTS))
            assert np.abs(mine - getattr(hers, name)(list(TEXTS))).max() <= TOLERANCE
    with pytest.raises(BijectError, match=r"'answer'.*it has 'document', 'other'"):
        ours.encode("x", prompt_name="answer")


def test_arguments(wrapped: Wrap) -> None:
    theirs = wrapped("bert", truncate_dim=20)
    ours, hers = EmbeddingModel.from_pretrained(theirs), opened(theirs)
    for how in (
        {"normalize_embeddings": True},
        {"truncate_dim": 5},
        {"truncate_dim": 5, "normalize_embeddings": True},
        {"batch_size": 1},
        {"batch_size": 3},
    ):
        equal(ours, hers, **how)
    one = ours.encode(TEXTS[1])
    assert one.shape == hers.encode(TEXTS[1]).shape
    many = ours.encode(list(TEXTS), convert_to_tensor=True)
    assert isinstance(many, torch.Tensor)
    listed = ours.encode(list(TEXTS), convert_to_numpy=False)
    assert isinstance(listed, list)
    assert torch.equal(torch.stack(listed), many)
    found = ours.similarity(many, many[:2])
    assert (found - hers.similarity(many, many[:2])).abs().max() <= TOLERANCE
    for wrong in ({"batch_size": 0}, {"truncate_dim": 0}):
        with pytest.raises(BijectError):
            ours.encode("a", **wrong)
    with pytest.raises(BijectError, match="text 2 is int"):
        ours.encode(["a", 3])


@pytest.mark.parametrize("kind", ["dot", "euclidean", "manhattan"])
def test_similarities(kind: str, wrapped: Wrap) -> None:
    theirs = wrapped("bert", similarity_fn_name=kind)
    ours, hers = EmbeddingModel.from_pretrained(theirs), opened(theirs)
    rows = hers.encode(list(TEXTS))
    assert (
        ours.similarity(rows, rows[:3]) - hers.similarity(rows, rows[:3])
    ).abs().max() <= 1e-4  # of up to 40


def test_a_plain_folder(reference: Any, tmp_path: Path) -> None:
    """The mean over the tokens, as sentence-transformers has it, too."""
    folder = reference("bert", "base")
    ours = EmbeddingModel.from_pretrained(folder)
    equal(ours, opened(folder))
    ours.save_pretrained(tmp_path / "ours")
    equal(ours, opened(tmp_path / "ours"))


def test_minilm(tmp_path: Path) -> None:
    folder = real_folder("all-MiniLM-L6-v2")
    pytest.importorskip("sentence_transformers")
    texts = [*SENTENCES, "word " * 400]
    ours = EmbeddingModel.from_pretrained(folder)
    with pytest.warns(UserWarning, match="256 tokens"):
        mine = ours.encode(texts)
    assert np.abs(mine - opened(folder).encode(texts)).max() <= 1e-6
    ours.save_pretrained(tmp_path / "ours")
    assert np.abs(mine - opened(tmp_path / "ours").encode(texts)).max() <= 1e-6
    for path in folder.rglob("*"):  # nothing changed: byte for byte as it came
        if path.is_file():
            assert (tmp_path / "ours" / path.relative_to(folder)).read_bytes() == path.read_bytes(), path


def test_a_pickled_linear(wrapped: Wrap) -> None:
    """As releases before 2.3 wrote it."""
    theirs = wrapped("bert", dense=(DENSE,))
    expected = EmbeddingModel.from_pretrained(theirs).encode(list(TEXTS))
    weights = theirs / "2_Dense" / "model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    assert np.array_equal(EmbeddingModel.from_pretrained(theirs).encode(list(TEXTS)), expected)


def _config(folder: Path, **values: Any) -> None:
    path = folder / "2_Dense" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"activation_function": "os.system"}, r"'os\.system'"),
        ({"activation_function": "torch.hub.load"}, r"'torch\.hub\.load'"),
        ({"in_features": -1}, "in_features"),
        ({"out_features": 1 << 40}, "out_features"),
        ({"out_features": 13}, r"linear\.weight` should be \(13, 32\), found \(12, 32\)"),
        ({"bias": False}, "bias as well"),
        ({"module_input_name": "token_embeddings"}, "token_embeddings"),
    ],
)
def test_a_hostile_linear(values: dict[str, Any], says: str, wrapped: Wrap) -> None:
    theirs = wrapped("bert", dense=(DENSE,))
    _config(theirs, **values)
    with pytest.raises(BijectError, match=says):
        EmbeddingModel.from_pretrained(theirs)


def test_a_linear_without_weights(wrapped: Wrap) -> None:
    theirs = wrapped("bert", dense=(DENSE,))
    weights = theirs / "2_Dense" / "model.safetensors"
    save_file({"linear.weight": torch.zeros(12, 32)}, weights)
    with pytest.raises(BijectError, match=r"`linear\.bias` should be"):
        EmbeddingModel.from_pretrained(theirs)
    weights.unlink()
    with pytest.raises(BijectError, match="has neither"):
        EmbeddingModel.from_pretrained(theirs)


@pytest.mark.parametrize(
    ("values", "says"),
    [({"transformer_task": "fill-mask"}, "fill-mask"), ({"query_length": 32}, "query_length")],
)
def test_a_transformer_that_is_not_computed(values: dict[str, Any], says: str, wrapped: Wrap) -> None:
    theirs = wrapped("bert")
    path = theirs / "sentence_bert_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(BijectError, match=says):
        EmbeddingModel.from_pretrained(theirs)
