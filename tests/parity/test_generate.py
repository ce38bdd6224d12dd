"""Generation against HF's own: the same tokens, greedy and drawn; the same bits of logits at every step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.errors import InputError
from biject.families import text_families
from biject.model import Model
from biject.nn.decode import Decoding
from biject.pretrained import load
from biject.verify.hf import quiet
from parity.harness import hf_model
from parity.variants import VARIANTS

Make = Callable[..., Path]
DECODERS = [name for name, known in text_families().items() if "causal" in known.heads]
VOCABULARY = 1200
WIDER = {
    "gpt2": {"n_positions": 128},
    "mistral": {"sliding_window": 16},
    "qwen2": {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1},
}
SAMPLED = {
    "plain": {"top_k": 0},
    "top-k": {"temperature": 0.7, "top_k": 20},
    "top-p": {"temperature": 1.5, "top_p": 0.8, "repetition_penalty": 1.3},
    "min-p": {"min_p": 0.02, "temperature": 3.0, "top_k": 100, "top_p": 0.95, "repetition_penalty": 0.9},
}


def ids_of(batch: int, length: int, *, seed: int = 0, high: int = VOCABULARY) -> torch.Tensor:
    return torch.randint(5, high, (batch, length), generator=torch.Generator().manual_seed(seed))


def padded(ids: torch.Tensor) -> torch.Tensor:
    """A mask that hides a few columns on the left of all prompts but one."""
    return (torch.arange(ids.shape[1]) >= 3 * torch.arange(ids.shape[0])[:, None]).long()


def models(make: Make, model_type: str, **overrides: Any) -> tuple[Model, Any]:
    wider = {"vocab_size": VOCABULARY, "tie_word_embeddings": False, **WIDER.get(model_type, {}), **overrides}
    ours = load(make(model_type, "causal", overrides=wider))
    with quiet():
        return ours, hf_model(ours.source.folder, ours)


def both(ours: Model, theirs: Any, ids: torch.Tensor, mask: torch.Tensor | None = None, **arguments: Any):
    """Ours and HF's texts from the same seed."""
    torch.manual_seed(3)
    mine = ours.generate(ids, mask, **arguments)
    torch.manual_seed(3)
    with quiet():
        extra = {} if mask is None else {"attention_mask": mask}
        return mine, theirs.generate(ids, **extra, **arguments)


def assert_same(found: tuple[torch.Tensor, torch.Tensor]) -> None:
    mine, theirs = found
    assert mine.tolist() == theirs.tolist()


@pytest.mark.parametrize("model_type", DECODERS)
def test_greedy(model_type: str, reference: Make) -> None:
    """Short and long prompts, alone and in batches with padding."""
    ours, theirs = models(reference, model_type)
    assert_same(both(ours, theirs, ids_of(1, 1), max_new_tokens=20))
    ids = ids_of(3, 24)
    found = both(ours, theirs, ids, max_new_tokens=20)
    assert_same(found)
    assert len(set(found[0][:, 24:].flatten().tolist())) > 10  # no text that only repeats itself
    assert_same(both(ours, theirs, ids, padded(ids), max_new_tokens=20))


@pytest.mark.slow
@pytest.mark.parametrize("model_type", DECODERS)
def test_twenty_prompts_of_sixty_tokens(model_type: str, reference: Make) -> None:
    ours, theirs = models(reference, model_type)
    for n in range(20):
        ids = ids_of(1 + n % 3, 1 + 3 * n, seed=n)
        assert_same(both(ours, theirs, ids, padded(ids) if n > 4 else None, max_new_tokens=60))


@pytest.mark.parametrize("settings", SAMPLED)
@pytest.mark.parametrize("model_type", DECODERS)
def test_drawn(model_type: str, settings: str, reference: Make) -> None:
    ours, theirs = models(reference, model_type)
    ids = ids_of(2, 9)
    draw = {"do_sample": True, "max_new_tokens": 12, **SAMPLED[settings]}
    found = both(ours, theirs, ids, padded(ids), **draw)
    assert_same(found)
    assert not torch.equal(found[0], ours.generate(ids, padded(ids), max_new_tokens=12))
    seeded = ours.generate(ids, padded(ids), seed=3, **draw)
    generated = ours.generate(ids, padded(ids), generator=torch.Generator().manual_seed(3), **draw)
    assert seeded.tolist() == generated.tolist() == found[1].tolist()


def test_another_order_of_processors_is_seen(reference: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: the warpers run backwards, which no single one of them shows."""
    from biject.generate import loop

    ours, theirs = models(reference, "llama")
    plain = loop.processors
    monkeypatch.setattr(loop, "processors", lambda *given, **named: plain(*given, **named)[::-1])
    texts = [
        both(ours, theirs, ids_of(2, 9, seed=n), do_sample=True, max_new_tokens=30, **SAMPLED["min-p"])
        for n in range(3)
    ]
    assert any(not torch.equal(mine, hf) for mine, hf in texts)


@pytest.mark.slow
@pytest.mark.parametrize("settings", SAMPLED)
@pytest.mark.parametrize("model_type", DECODERS)
def test_twenty_drawn_texts(model_type: str, settings: str, reference: Make) -> None:
    ours, theirs = models(reference, model_type)
    for n in range(20):
        ids = ids_of(1 + n % 3, 1 + 3 * n, seed=n)
        mask = padded(ids) if n > 4 else None
        assert_same(both(ours, theirs, ids, mask, do_sample=True, max_new_tokens=60, **SAMPLED[settings]))


def logits_of(
    ours: Model, theirs: Any, ids: torch.Tensor, mask: torch.Tensor, new: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Logits of every step of HF's run, ours along the same tokens."""
    with quiet():
        found = theirs.generate(
            ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, eos_token_id=-1,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
    length, end = ids.shape[1], ids.shape[1] + new
    real = mask.bool()
    all_real = torch.cat([real, real.new_ones(len(ids), new)], dim=1)
    positions = (mask.cumsum(-1) - 1).masked_fill(~real, 0)
    steps = []
    with torch.inference_mode():
        decoding = Decoding(
            ours, batch=len(ids), length=end - 1, real_BS=None if bool(real.all()) else all_real
        )
        columns = found.sequences[:, :length]
        for step in range(new):
            steps.append((decoding(columns, positions).float(), found.logits[step]))
            columns = found.sequences[:, length + step : length + step + 1]
            positions = positions[:, -1:] + 1
    return steps


def assert_same_bits(steps: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    different = [step for step, (a, b) in enumerate(steps) if not torch.equal(a, b)]
    assert different == []


RENEWED = {("phi3", name) for name in ("longrope", "longrope-part", "su")}
"""HF computes their texts anew at the original length, and cannot generate with `su`: see below."""
CACHED = [
    v
    for v in VARIANTS
    if v.model_type in DECODERS
    and "causal" in v.heads
    and v.name != "window-1"
    and (v.model_type, v.name) not in RENEWED
    and not v.overrides.get("output_router_logits")  # HF's balance takes no mask that is longer than the step
]


@pytest.mark.parametrize("variant", CACHED, ids=lambda v: f"{v.model_type}-{v.name}")
def test_logits_step_by_step(variant: Any, reference: Make) -> None:
    """Every variant, past its windows and its original lengths, alone and padded."""
    overrides = {**variant.overrides, "eos_token_id": None}
    ours = load(reference(variant.model_type, "causal", overrides=overrides))
    for batch, mask in ((1, torch.ones), (3, None)):
        theirs = hf_model(ours.source.folder, ours)  # HF's dynamic positions remember earlier texts
        ids = ids_of(batch, 11, high=90)
        real = padded(ids) if mask is None else torch.ones_like(ids)
        assert_same_bits(logits_of(ours, theirs, ids, real, 12))


def test_a_text_that_would_be_computed_anew(reference: Make) -> None:
    """Up to its original length, and beyond it, a Phi-3 with long positions has HF's bits; not across it."""
    (variant,) = (v for v in VARIANTS if (v.model_type, v.name) == ("phi3", "longrope-part"))
    ours = load(reference("phi3", "causal", overrides={**variant.overrides, "eos_token_id": None}))
    for length, steps in ((5, 11), (20, 12)):
        ids, theirs = ids_of(2, length, high=90), hf_model(ours.source.folder, ours)
        assert_same_bits(logits_of(ours, theirs, ids, torch.ones_like(ids), steps))
    with pytest.raises(InputError, match="outgrow 16 tokens"):
        ours.generate(ids_of(1, 5, high=90), max_new_tokens=12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("model_type", DECODERS)
def test_logits_in_narrow_dtypes(model_type: str, dtype: torch.dtype, reference: Make) -> None:
    wider = {"vocab_size": VOCABULARY, **WIDER.get(model_type, {})}
    ours = load(reference(model_type, "causal", overrides=wider), dtype=dtype)
    theirs = hf_model(ours.source.folder, ours, dtype=dtype)
    for ids in (ids_of(1, 9), ids_of(3, 24)):
        assert_same_bits(logits_of(ours, theirs, ids, padded(ids), 12))


def test_a_window_that_is_one_too_short_is_seen(reference: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: a cache that keeps W − 2 tokens."""
    from biject.nn import kv_cache

    ours, theirs = models(reference, "mistral")
    ids = ids_of(1, 24)
    plain = kv_cache._Buffer.__init__

    def shorter(self: Any, both: torch.Tensor, window: int | None) -> None:
        plain(self, both, window)
        self.keep -= 1

    monkeypatch.setattr(kv_cache._Buffer, "__init__", shorter)
    monkeypatch.setattr(Decoding, "_mask_of_one", lambda *_: None)
    with pytest.raises(AssertionError):
        assert_same_bits(logits_of(ours, theirs, ids, torch.ones_like(ids), 12))


def test_a_window_of_one_token(reference: Make) -> None:
    """HF's cache then keeps every token, and looks at all; the oracle is HF without a cache."""
    ours, theirs = models(reference, "mistral", sliding_window=1)
    ids = ids_of(1, 5)
    mine = ours.generate(ids, max_new_tokens=12)
    assert mine.tolist() == theirs.generate(ids, max_new_tokens=12, use_cache=False).tolist()
    assert mine.tolist() != theirs.generate(ids, max_new_tokens=12).tolist()
