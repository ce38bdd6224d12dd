"""Generation against HF's own: the same tokens, greedy and drawn; the same bits of logits at every step."""

from __future__ import annotations

import json
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


def ending(model: Any, ids: torch.Tensor) -> int:
    """A token that the second text comes to after a few others."""
    return int(model.generate(ids, max_new_tokens=8)[1, -1])


def test_ends_of_texts(reference: Make) -> None:
    ours, theirs = models(reference, "llama")
    ids = ids_of(3, 6)
    end = ending(ours, ids)
    for arguments in (
        {"eos_token_id": end},
        {"eos_token_id": [end, 7], "pad_token_id": 9},
        {"eos_token_id": [7, end], "min_new_tokens": 9},
        {"eos_token_id": end, "min_length": 12},
        {"eos_token_id": -1},
        {"max_length": 11},
        {},
    ):
        limits = {} if "max_length" in arguments or not arguments else {"max_new_tokens": 16}
        assert_same(both(ours, theirs, ids, torch.ones_like(ids), **limits, **arguments))
    stopped = ours.generate(ids[1:2], max_new_tokens=16, eos_token_id=end)
    assert stopped.shape[1] <= 6 + 8
    assert stopped[0, -1] == end


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_a_padding_token_that_there_is_not(numerics: Any, reference: Make) -> None:
    """It is needed only where a text can end before another."""
    ours, _ = models(reference, "llama")
    ids = ids_of(3, 6)
    arguments = {"max_new_tokens": 9, "numerics": numerics, "pad_token_id": VOCABULARY}
    arguments["eos_token_id"] = ending(ours, ids)
    with pytest.raises(InputError, match=r"`pad_token_id` .*must lie in 0…1199; found 1200"):
        ours.generate(ids, **arguments)
    ours.generate(ids[:1], **arguments)
    for ends in ([], -1, VOCABULARY + 7):
        assert ours.generate(ids, **{**arguments, "eos_token_id": ends}).shape == (3, 15)


@pytest.mark.parametrize(
    "arguments",
    [
        {"temperature": 1e-40},
        {"repetition_penalty": 1e-300},
        {"eos_token_id": list(range(VOCABULARY)), "min_new_tokens": 3},
    ],
)
def test_settings_that_leave_no_token_to_draw(arguments: Any, reference: Make) -> None:
    ours, _ = models(reference, "llama")
    with pytest.raises(InputError, match="settings leave no token to draw"):
        ours.generate(ids_of(2, 6), do_sample=True, max_new_tokens=9, seed=0, **arguments)


def test_several_texts_of_one_prompt(reference: Make) -> None:
    ours, theirs = models(reference, "qwen3")
    ids = ids_of(2, 6)
    found = both(ours, theirs, ids, padded(ids), do_sample=True, num_return_sequences=3, max_new_tokens=8)
    assert found[0].shape == (6, 14)
    assert_same(found)


def test_padding_is_seen_by_its_id(reference: Make) -> None:
    ours, theirs = models(reference, "llama")
    ids = ids_of(2, 9)
    ids[1, :4] = 0
    arguments = {"max_new_tokens": 8, "pad_token_id": 0, "eos_token_id": 4}
    found = both(ours, theirs, ids, **arguments)
    assert_same(found)
    assert found[0][1].tolist() != ours.generate(ids, torch.ones_like(ids), **arguments)[1].tolist()


def test_defaults_of_the_folder(reference: Make) -> None:
    folder = reference("gpt2", "causal", overrides={"vocab_size": VOCABULARY})
    file = folder / "generation_config.json"
    said = {"do_sample": True, "temperature": 0.8, "top_k": 7, "max_new_tokens": 9, "eos_token_id": [1, 2]}
    file.write_text(json.dumps(said))
    ours = load(folder)
    theirs = hf_model(folder, ours)
    ids = ids_of(2, 5)
    found = both(ours, theirs, ids, torch.ones_like(ids))
    assert found[0].shape == (2, 14)
    assert_same(found)
    assert_same(both(ours, theirs, ids, torch.ones_like(ids), do_sample=False, max_new_tokens=4))
    file.unlink()
    fresh = hf_model(folder, ours)
    assert_same(both(ours, fresh, ids, torch.ones_like(ids)))


def test_stop_strings(reference: Make) -> None:
    import transformers

    from biject.tokenization.tokenizer import load_tokenizer

    for model_type in ("gpt2", "llama"):
        folder = reference(model_type, "causal", name=f"stops-{model_type}")
        ours = load(folder)
        theirs = hf_model(folder, ours)
        tokenizer = load_tokenizer(folder, ours.hf_config)
        hf_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        ids = ids_of(3, 6, high=90)
        text = tokenizer.decode(ours.generate(ids, max_new_tokens=20, eos_token_id=-1)[1, 6:].tolist())
        middle = len(text) // 2
        for stop in (
            text[middle : middle + 1],
            text[middle : middle + 3],
            [text[2:4], "nowhere to be found"],
        ):
            for ends in ({"eos_token_id": -1}, {"eos_token_id": [4], "pad_token_id": 3}):
                arguments = {"max_new_tokens": 20, "stop_strings": stop, **ends}
                mine = ours.generate(ids, tokenizer=tokenizer, **arguments)
                with quiet():
                    hf = theirs.generate(
                        ids, attention_mask=torch.ones_like(ids), tokenizer=hf_tokenizer, **arguments
                    )
                assert mine.tolist() == hf.tolist(), (model_type, stop, ends)


def test_hf_streamers_are_served(reference: Make) -> None:
    class Told:
        def __init__(self) -> None:
            self.said: list[Any] = []

        def put(self, value: torch.Tensor) -> None:
            self.said.append(value.tolist())

        def end(self) -> None:
            self.said.append("end")

    ours, theirs = models(reference, "gpt2")
    ids = ids_of(1, 4)
    mine, hf = Told(), Told()
    ours.generate(ids, streamer=mine, max_new_tokens=5)
    theirs.generate(ids, streamer=hf, max_new_tokens=5)
    assert mine.said == hf.said
    assert len(mine.said) == 7


@pytest.mark.parametrize(
    "ids, mask, words",
    [
        (torch.zeros(1, 0, dtype=torch.long), None, "the prompt is empty"),
        (torch.zeros(4, dtype=torch.long), None, r"must be ids, \(batch, length\)"),
        (torch.zeros(1, 4), None, "found float32"),
        (torch.full((1, 4), 1200), None, "must lie in 0…"),
        (
            ids_of(2, 4, high=90),
            torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
            "last column of prompt 1 is padding",
        ),
        (ids_of(2, 4, high=90), torch.ones(2, 3), "must have the shape"),
        (ids_of(1, 65, high=90), None, "table of positions ends at 64: cut it"),
        (ids_of(1, 60, high=90), None, "max_new_tokens=5 or less"),
    ],
)
def test_prompts_that_cannot_be_continued(ids: Any, mask: Any, words: str, reference: Make) -> None:
    ours = load(reference("gpt2", "causal"))
    with pytest.raises(InputError, match=words):
        ours.generate(ids, mask, max_new_tokens=6)


def test_the_last_token_needs_no_position(reference: Make) -> None:
    ours, theirs = models(reference, "gpt2", n_positions=64)
    assert_same(both(ours, theirs, ids_of(1, 60), max_new_tokens=5))
    shifted = torch.cat([torch.zeros(1, 3, dtype=torch.long), ids_of(1, 60)], dim=1)
    assert_same(both(ours, theirs, shifted, (torch.arange(63) > 2).long()[None], max_new_tokens=5))


def test_models_and_calls_that_do_not_fit(reference: Make) -> None:
    with pytest.raises(InputError, match="head of a causal language model"):
        load(reference("gpt2", "seqcls", name="classifier")).generate(ids_of(1, 3))
    ours = load(reference("gpt2", "causal"))
    with pytest.raises(InputError, match="not both"):
        ours.generate(ids_of(1, 3), seed=1, generator=torch.Generator())
    with torch.no_grad():
        ours.final_norm.weight[0] = float("inf")
    for do_sample in (False, True):
        with pytest.raises(InputError, match="NaN or infinite"):
            ours.generate(ids_of(1, 3, high=90), do_sample=do_sample)


def test_results_can_be_trained_on(reference: Make) -> None:
    """No inference tensor is left in a caller's hands, nor in the model."""
    ours = load(reference("llama", "causal"))
    made = ours.generate(ids_of(1, 3, high=90), max_new_tokens=4)
    ours(input_ids=made, labels=made).loss.backward()
