"""Embeddings equal the masked mean or the first row of HF's hidden states, and what a folder says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from biject import BijectError, pipeline
from biject.families import text_families
from parity.real import real_folder
from parity.test_pipelines import SENTENCES, TEXTS

Make = Callable[..., Path]
TOLERANCE = 1e-5  # of values of about 1, padded beside HF's rows alone; normalised ones are held to 1e-6


def hidden_rows(folder: Path, texts: tuple[str, ...], limit: int) -> list[Tensor]:
    """HF's last hidden states of each text alone, (L, D)."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=limit)
        with torch.no_grad():
            rows.append(model(**inputs).last_hidden_state[0])
    return rows


@pytest.mark.parametrize("model_type", list(text_families()))
def test_tiny(model_type: str, reference: Make) -> None:
    folder = reference(model_type, "base")
    pipe = pipeline(folder)
    rows = hidden_rows(folder, TEXTS, 60)
    mean, cls = torch.stack([r.mean(0) for r in rows]), torch.stack([r[0] for r in rows])
    ours = pipe(list(TEXTS), normalize=False)
    assert (ours - mean).abs().max() <= TOLERANCE
    assert (pipe(list(TEXTS), pooling="cls", normalize=False) - cls).abs().max() <= TOLERANCE
    largest = torch.stack([r.max(0).values for r in rows])
    assert (pipe(list(TEXTS), pooling="max", normalize=False) - largest).abs().max() <= TOLERANCE
    assert (pipe(list(TEXTS)) - F.normalize(mean)).abs().max() <= 1e-6
    assert pipe(TEXTS[2]).shape == (32,)


@pytest.mark.parametrize("head", ["mlm", "seqcls"])
def test_any_head_can_embed(head: str, reference: Make) -> None:
    folder = reference("bert", head)
    rows = hidden_rows(folder, TEXTS, 60)
    ours = pipeline(folder, task="embed")(list(TEXTS), normalize=False)
    assert (ours - torch.stack([r.mean(0) for r in rows])).abs().max() <= TOLERANCE


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_minilm_as_its_folder_says(batch_size: int) -> None:
    """modules.json: mean pooling, normalised, at most 256 tokens."""
    folder = real_folder("all-MiniLM-L6-v2")
    texts = (*SENTENCES, "word " * 400)
    rows = hidden_rows(folder, texts, 256)
    assert len(rows[-1]) == 256
    with pytest.warns(UserWarning, match="256 tokens"):
        ours = pipeline(folder, batch_size=batch_size)(list(texts))
    mean = torch.stack([r.mean(0) for r in rows])
    assert (ours - F.normalize(mean)).abs().max() <= 1e-6


def test_minilm_by_choice() -> None:
    folder = real_folder("all-MiniLM-L6-v2")
    rows = hidden_rows(folder, SENTENCES, 256)
    ours = pipeline(folder)(list(SENTENCES), pooling="cls", normalize=False)
    assert (ours - torch.stack([r[0] for r in rows])).abs().max() <= TOLERANCE


def say(
    folder: Path, pooling: dict[str, Any], *, types: tuple[str, ...] = ("Transformer", "Pooling")
) -> None:
    """Write the files of a sentence-transformers folder."""
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{name}" if i else "",
            "type": f"sentence_transformers.models.{name}",
        }
        for i, name in enumerate(types)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def weighted(rows: Tensor) -> Tensor:
    weights = torch.arange(1, len(rows) + 1)[:, None]
    return (rows * weights).sum(0) / weights.sum()


MODES: dict[str, Callable[[Tensor], Tensor]] = {
    "pooling_mode_cls_token": lambda r: r[0],
    "pooling_mode_max_tokens": lambda r: r.max(0).values,
    "pooling_mode_mean_tokens": lambda r: r.mean(0),
    "pooling_mode_mean_sqrt_len_tokens": lambda r: r.sum(0) / len(r) ** 0.5,
    "pooling_mode_weightedmean_tokens": weighted,
    "pooling_mode_lasttoken": lambda r: r[-1],
}


@pytest.mark.parametrize("keys", [*((key,) for key in MODES), tuple(MODES)])
def test_modes(keys: tuple[str, ...], reference: Make) -> None:
    folder = reference("bert", "base")
    say(folder, {key: key in keys for key in MODES})
    rows = hidden_rows(folder, TEXTS, 60)
    expected = torch.stack([torch.cat([MODES[key](r) for key in MODES if key in keys]) for r in rows])
    ours = pipeline(folder)(list(TEXTS))
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= 10 * TOLERANCE  # sums, not means, among them


def test_prompt_case_and_length(reference: Make) -> None:
    folder = reference("bert", "base")
    say(folder, {"pooling_mode": "cls"}, types=("Transformer", "Pooling", "Normalize"))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 7, "do_lower_case": true}')
    settings = {"prompts": {"query": "paris is "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    row = hidden_rows(folder, ("paris is " + TEXTS[1],), 7)[0]
    with pytest.warns(UserWarning, match="7 tokens"):
        ours = pipeline(folder)(TEXTS[1].upper())
    assert (ours - F.normalize(row[0], dim=0)).abs().max() <= 1e-6


def test_the_transformer_in_a_folder_of_its_own(reference: Make) -> None:
    """As sentence-transformers wrote it at first."""
    inner = reference("bert", "base", name="whole/0_Transformer")
    whole = inner.parent
    say(whole, {"pooling_mode_mean_tokens": True})
    modules = (whole / "modules.json").read_text().replace('"path": ""', '"path": "0_Transformer"')
    (whole / "modules.json").write_text(modules)
    expected = pipeline(inner)(list(TEXTS), normalize=False)
    assert torch.equal(pipeline(whole)(list(TEXTS)), expected)


@pytest.mark.parametrize(
    ("pooling", "types", "says"),
    [
        ({"pooling_mode_mean_tokens": True}, ("Transformer", "Pooling", "LSTM"), "'LSTM'"),
        ({"pooling_mode_mean_tokens": False}, ("Transformer", "Pooling"), "found none"),
        ({"pooling_mode_of_my_own": True}, ("Transformer", "Pooling"), "pooling_mode_of_my_own"),
        ({"pooling_mode": "sideways"}, ("Transformer", "Pooling"), "sideways"),
        ({}, ("Transformer",), "and a Pooling"),
    ],
)
def test_what_is_not_computed_is_refused(
    pooling: dict[str, Any], types: tuple[str, ...], says: str, reference: Make
) -> None:
    folder = reference("bert", "base")
    say(folder, pooling, types=types)
    with pytest.raises(BijectError, match=says):
        pipeline(folder)


@pytest.mark.parametrize(
    "text", ["{}", "[3]", '[{"type": "x.Transformer", "path": "../up"}]', "[", '[{"type": 3}]']
)
def test_a_broken_modules_file(text: str, reference: Make) -> None:
    folder = reference("bert", "base")
    (folder / "modules.json").write_text(text)
    with pytest.raises(BijectError, match="modules"):
        pipeline(folder)
