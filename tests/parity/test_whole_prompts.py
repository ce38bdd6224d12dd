"""Prompts without padding, `numerics="fast"`: attention by rows, one column of the last layer, activations in
one pass. Logits and cache are the exact prompt's, within rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.nn import attention, decode
from biject.nn.decode import Decoding
from biject.nn.last_column import LastColumn
from biject.nn.native import build
from biject.pretrained import load
from parity.test_generate_native import CAUSAL, difference, ids_of, logits

Make = Callable[..., Path]
EVERY = [*CAUSAL]
WIDE = {"hidden_size": 64, "num_attention_heads": 4, "head_dim": 16, "num_key_value_heads": 2}
DECODERS = ("llama", "mistral", "qwen3")


def fast_and_exact(model: Any, ids: torch.Tensor, prompt: int) -> float:
    """The difference of the logits after the prompt and of the steps behind it."""
    ones = torch.ones_like(ids)
    pair = [logits(model, kind, ids, ones, prompt) for kind in (partial(Decoding, numerics="fast"), Decoding)]
    return difference(*pair)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("variant", EVERY, ids=lambda v: f"{v.model_type}-{v.name}")
def test_every_variant(variant: Any, batch: int, reference: Make) -> None:
    """Windows that a prompt outgrows, groups, caps; the cache is seen by the steps."""
    overrides = {**variant.overrides, "eos_token_id": None}
    model = load(reference(variant.model_type, "causal", overrides=overrides))
    assert fast_and_exact(model, ids_of(batch, 24), 19) < 1e-4


@pytest.mark.skipif(build.compiler() is None, reason="needs a C compiler")
@pytest.mark.parametrize("window", [None, 7, 64])
@pytest.mark.parametrize("model_type", DECODERS)
def test_attention_by_rows(
    model_type: str, window: int | None, reference: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads of sixteen numbers, which rows.c takes; bfloat16 is no farther from float32 than torch is."""
    windows = {"sliding_window": window} if model_type == "mistral" else {}
    model = load(reference(model_type, "causal", overrides={**WIDE, **windows, "eos_token_id": None}))
    calls: list[str] = []
    known = attention.Attention._by_rows

    def by_rows(self: Any, *args: Any, **named: Any) -> Any:
        calls.append("rows")
        return known(self, *args, **named)

    monkeypatch.setattr(attention.Attention, "_by_rows", by_rows)
    ids = ids_of(2, 40)
    assert fast_and_exact(model, ids, 37) < 1e-4
    assert len(calls) == len(model.layers) - 1  # the last one looks from one column
    ones, half = torch.ones_like(ids), model.to(torch.bfloat16)
    mine = logits(half, partial(Decoding, numerics="fast"), ids, ones, 37)[0]
    torchs = logits(half, Decoding, ids, ones, 37)[0]
    true = logits(half.to(torch.float32), Decoding, ids, ones, 37)[0]
    assert difference(mine, true) < 1.5 * difference(torchs, true)


def test_queries_that_autocast_leaves_in_float32(reference: Make) -> None:
    """Positions are float32, so that rotated queries and keys are, and values bfloat16."""
    model = load(reference("llama", "causal", overrides={**WIDE, "eos_token_id": None}))
    ids = ids_of(2, 40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fast_and_exact(model, ids, 37) < 0.1
        model.planner.numerics = "fast"
        with torch.inference_mode():
            found = model(input_ids=ids).logits
            model.planner.numerics = "exact"
            assert difference(found, model(input_ids=ids).logits) < 0.1


def test_a_wrong_last_column_is_seen(reference: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault."""

    class Other(LastColumn):
        def queries(self, x_TD: torch.Tensor) -> torch.Tensor:
            return self.grid(x_TD)[:, -2]

    monkeypatch.setattr(decode, "LastColumn", Other)
    model = load(reference("llama", "causal", overrides={"eos_token_id": None}))
    assert fast_and_exact(model, ids_of(2, 12), 9) > 1e-2


def test_texts_that_share_a_row_stay_apart(reference: Make) -> None:
    """Rows that hold several texts have masks, which attention by rows does not read."""
    model = load(reference("llama", "causal", overrides={**WIDE, "use_cache": False}), numerics="fast")
    ids, positions = ids_of(1, 13), torch.tensor([[*range(9), *range(4)]])
    with torch.inference_mode():
        apart = model(ids[:, 9:]).logits
        found = model(ids, position_ids=positions).logits[:, 9:]
    # Products of 13 and of 4 rows (found: 8e-7 apart); a text that sees the other one is off by 2.5.
    assert torch.allclose(found, apart, atol=1e-5)
