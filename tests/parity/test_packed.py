"""The packed layout gives HF's bits at every real token: families, heads, odd masks, real sentences."""

from __future__ import annotations

import copy
import csv
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biject.model import Model
from biject.pretrained import load
from biject.tokenization.tokenizer import load_tokenizer
from parity.harness import hf_model
from parity.real import CACHE, real_folder
from parity.unequal import ALL, is_packed, labelled, lengths, real_differences, sizes, texts

Reference = Callable[..., Path]
BATCHES = [  # batch, shortest, longest, padding
    (1, 40, 40, "right"),
    (9, 2, 40, "right"),
    (33, 2, 12, "right"),
    (5, 3, 130, "right"),
    (6, 3, 50, "left"),
    (7, 3, 70, "holes"),
]
LONG = [(7, 20, 200, "right"), (16, 1, 200, "holes"), (8, 10, 512, "right"), (5, 3, 512, "left")]
TESTS = Path(__file__).parents[1]


def both(
    make: Reference, model_type: str, head: str, positions: int = 130, **more: Any
) -> tuple[Model, nn.Module]:
    folder = make(model_type, head, overrides=sizes(model_type, positions, **more))
    ours = load(folder)
    assert ours.planner.layout == "packed"
    return ours, hf_model(folder, ours)


def all_alike(ours: Model, theirs: nn.Module, batches: list[tuple[int, int, int, str]]) -> None:
    """Every output, with and without hidden states, and the loss; and padding is in fact left out."""
    packed = []
    for count, shortest, longest, kind in batches:
        batch = texts(ours, lengths(count, shortest, longest), kind=kind)
        for flags in ({}, {"output_hidden_states": True}):
            assert real_differences(ours, theirs, batch, **flags) == [], (count, longest, kind, flags)
        assert real_differences(ours, theirs, labelled(ours, batch)) == [], (count, longest, kind, "labels")
        packed.append(is_packed(ours, batch))
    assert any(packed)


@pytest.mark.parametrize(("model_type", "head"), ALL)
def test_every_family_and_head(model_type: str, head: str, reference: Reference) -> None:
    all_alike(*both(reference, model_type, head), BATCHES)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("model_type", "head"), ALL)
def test_long_texts(model_type: str, head: str, threads: int, reference: Reference) -> None:
    torch.set_num_threads(threads)
    ours, theirs = both(reference, model_type, head, 512)
    all_alike(ours, theirs, [*BATCHES, *LONG])


VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    ("deberta-v2", "base", {"conv_kernel_size": 3, "conv_act": "gelu"}),
    ("deberta-v2", "mlm", {"share_att_key": False, "position_buckets": -1, "max_relative_positions": 40}),
    ("deberta-v2", "seqcls", {"pos_att_type": ["p2c"], "conv_kernel_size": 3, "conv_act": "gelu"}),
    ("bert", "mlm", {"hidden_act": "silu", "hidden_size": 60, "intermediate_size": 37}),
    ("bert", "base", {"hidden_size": 100, "intermediate_size": 53, "num_attention_heads": 2}),
    ("electra", "tokcls", {"embedding_size": 33, "hidden_act": "gelu_new", "num_labels": 9}),
    ("albert", "mlm", {"embedding_size": 24, "num_hidden_groups": 2}),
    ("bert", "seqcls", {"num_hidden_layers": 1}),
    ("deberta-v2", "base", {"num_hidden_layers": 1, "conv_kernel_size": 3, "conv_act": "tanh"}),
]


@pytest.mark.parametrize(("model_type", "head", "more"), VARIANTS)
def test_variants(model_type: str, head: str, more: dict[str, Any], reference: Reference) -> None:
    """Odd widths, activations that mind their place, convolutions: packed or not, the bits are HF's."""
    ours, theirs = both(reference, model_type, head, **more)
    for count, shortest, longest, kind in BATCHES:
        batch = texts(ours, lengths(count, shortest, longest), kind=kind)
        assert real_differences(ours, theirs, batch) == [], (count, longest, kind)
        assert real_differences(ours, theirs, labelled(ours, batch)) == [], (count, longest, kind, "labels")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_dtypes(dtype: torch.dtype, reference: Reference) -> None:
    folder = reference("bert", "tokcls", overrides=sizes("bert", 60), dtype=dtype)
    ours = load(folder)
    theirs = hf_model(folder, ours)
    for kind in ("right", "left", "holes"):
        batch = texts(ours, lengths(7, 3, 60), kind=kind)
        assert real_differences(ours, theirs, labelled(ours, batch)) == []


@pytest.mark.parametrize("head", ["mlm", "seqcls"])
def test_autocast(head: str, reference: Reference) -> None:
    """The probe is asked for the dtype that is computed in, and is not itself measured in another."""
    ours, theirs = both(reference, "albert", head, embedding_size=24)
    with torch.autocast("cpu", torch.bfloat16):
        for counts in (lengths(9, 2, 40), lengths(5, 3, 130)):
            assert real_differences(ours, theirs, labelled(ours, texts(ours, counts))) == []
    assert real_differences(ours, theirs, texts(ours, lengths(9, 2, 40))) == []


@pytest.mark.parametrize("model_type", ["bert", "roberta", "deberta-v2"])
def test_other_inputs(model_type: str, reference: Reference) -> None:
    """Segments, positions, embeddings; masks of booleans and floats."""
    ours, theirs = both(reference, model_type, "base", type_vocab_size=2)
    batch = texts(ours, lengths(6, 2, 40))
    ids, shape = batch["input_ids"], batch["input_ids"].shape
    draw = torch.Generator().manual_seed(1)
    others: list[dict[str, Tensor]] = [
        {**batch, "token_type_ids": torch.randint(0, 2, shape, generator=draw)},
        {**batch, "position_ids": 2 + torch.stack([torch.randperm(100, generator=draw)[:40] for _ in ids])},
        {
            "attention_mask": batch["attention_mask"],
            "inputs_embeds": 0.5 * torch.randn(*shape, 64, generator=draw),
        },
        {**batch, "attention_mask": batch["attention_mask"].bool()},
        {**batch, "attention_mask": batch["attention_mask"].float()},
    ]
    for other in others:
        assert real_differences(ours, theirs, other) == [], sorted(other)


@pytest.mark.parametrize(
    ("model_type", "head"), [("bert", "base"), ("deberta-v2", "tokcls"), ("albert", "qa")]
)
@pytest.mark.parametrize("kind", ["right", "holes"])
def test_no_leak(model_type: str, head: str, kind: str, reference: Reference) -> None:
    """Other tokens in one text leave every bit of the others, even where they are not numbers."""
    ours, _ = both(reference, model_type, head)
    batch = texts(ours, lengths(7, 3, 60), kind=kind)
    mask = batch["attention_mask"]
    with torch.no_grad():
        embeds = ours.embed.tokens(batch["input_ids"])
        before = ours(inputs_embeds=embeds, attention_mask=mask)
        embeds[3] = float("nan")
        after = ours(inputs_embeds=embeds, attention_mask=mask)
    others = [text for text in range(7) if text not in (2, 3)]
    assert is_packed(ours, batch)
    for name in before:
        assert torch.equal(before[name][others], after[name][others]), name


def test_padding_is_zero_and_never_read(reference: Reference) -> None:
    ours, _ = both(reference, "bert", "base")
    batch = texts(ours, lengths(7, 3, 60))
    padding = batch["attention_mask"] == 0
    with torch.no_grad():
        embeds = ours.embed.tokens(batch["input_ids"])
        before = ours(**batch).last_hidden_state
        embeds[padding] = float("nan")
        after = ours(inputs_embeds=embeds, attention_mask=batch["attention_mask"]).last_hidden_state
    assert torch.equal(before, after)
    assert bool((before[padding] == 0).all())


def test_labels_on_padding_count_as_in_hf(reference: Reference) -> None:
    for model_type, head in (("bert", "tokcls"), ("bert", "mlm"), ("electra", "rtd")):
        folder = reference(model_type, head, f"{model_type}-{head}", overrides=sizes(model_type, 60))
        ours = load(folder)
        theirs = hf_model(folder, ours)
        batch = texts(ours, lengths(6, 3, 60))
        batch["labels"] = torch.ones_like(batch["input_ids"])
        assert real_differences(ours, theirs, batch) == [], head


def test_attentions_take_the_whole_grid(reference: Reference) -> None:
    folder = reference("bert", "base", overrides=sizes("bert", 60))
    ours = load(folder)
    theirs = hf_model(folder, ours, attention="eager")
    batch = texts(ours, lengths(6, 3, 60))
    with torch.no_grad():
        mine, other = (model(**batch, output_attentions=True) for model in (ours, theirs))
    assert len(mine.attentions) == len(other.attentions) > 0
    assert all(torch.equal(a, b) for a, b in zip(mine.attentions, other.attentions, strict=True))


def test_masked_lm_gives_the_logits_that_are_asked_for(reference: Reference) -> None:
    for model_type, more in (("bert", {}), ("bert", {"hidden_act": "silu", "hidden_size": 60})):
        folder = reference(model_type, "mlm", f"mlm-{len(more)}", overrides=sizes(model_type, 60, **more))
        ours = load(folder)
        batch = texts(ours, lengths(6, 3, 60))
        wanted = batch["attention_mask"].bool() & (torch.arange(60) % 7 == 2)
        with torch.no_grad():
            some = ours(**batch, logits_at=wanted).logits
            whole = hf_model(folder, ours)(**batch).logits
            none = ours(**batch, logits_at=torch.zeros_like(wanted)).logits
        assert torch.equal(some, whole[wanted])
        assert none.shape == (0, whole.shape[-1])


def test_copies_and_modes(reference: Reference) -> None:
    """Copies, inference mode, a reloaded state and a resized table compute what the model computes."""
    ours, theirs = both(reference, "bert", "mlm")
    batch = texts(ours, lengths(6, 3, 60))
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        expected = theirs(**batch).logits[real]
    copied = copy.deepcopy(ours)
    copied.load_state_dict(pickle.loads(pickle.dumps(ours.state_dict())))
    with torch.inference_mode():
        assert torch.equal(copied(**batch).logits[real], expected)
        assert torch.equal(ours(**batch).logits[real], expected)
    for model in (copied, theirs):
        model.resize_token_embeddings(140, mean_resizing=True)  # type: ignore[operator]
    assert copied.config.vocab_size == 140 != ours.config.vocab_size
    count = ours.config.vocab_size
    with torch.no_grad():
        assert torch.equal(copied(**batch).logits[real][:, :count], theirs(**batch).logits[real][:, :count])


def test_real_sentences() -> None:
    """MiniLM on sentences from film reviews, as they come."""
    folder, snippets = real_folder("all-MiniLM-L6-v2"), CACHE / "movie-snippets.csv"
    if not snippets.is_file():
        pytest.skip("movie-snippets.csv is not there; fetch it with `python scripts/fetch_data.py`")
    rows = csv.DictReader(io.StringIO(snippets.read_text(encoding="utf-8")))
    sentences = [
        next(value for value in row.values() if len(value) > 8)
        for row, _ in zip(rows, range(48), strict=False)
    ]
    ours = load(folder)
    theirs, tokenizer = hf_model(folder, ours), load_tokenizer(folder)
    for start in range(0, 48, 16):
        encoded = tokenizer(sentences[start : start + 16], padding=True, truncation=True)
        batch = {name: torch.tensor(getattr(encoded, name)) for name in ("input_ids", "attention_mask")}
        assert is_packed(ours, batch)
        assert real_differences(ours, theirs, batch) == []
        assert real_differences(ours, theirs, batch, output_hidden_states=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("model_type", "head"), [("bert", "seqcls"), ("deberta-v2", "tokcls")])
def test_base_size(model_type: str, head: str, threads: int, reference: Reference) -> None:
    torch.set_num_threads(threads)
    folder = reference(model_type, head, size="base", overrides={"vocab_size": 1000, "num_hidden_layers": 4})
    ours = load(folder)
    all_alike(
        ours, hf_model(folder, ours), [(16, 11, 82, "right"), (8, 3, 130, "right"), (4, 20, 300, "holes")]
    )


@pytest.mark.parametrize(
    ("threads", "switches"),
    [
        (1, {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}),
        (2, {}),
    ],
    ids=["avx2", "two-threads"],
)
def test_under_other_kernels(threads: int, switches: dict[str, str]) -> None:
    """Where the kernels are others, the probe withdraws what does not hold, and the bits are HF's."""
    variables = {
        **os.environ,
        **switches,
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]),
    }
    command = [sys.executable, "-m", "parity.packed_worker", str(threads)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "12 comparisons" in done.stdout
