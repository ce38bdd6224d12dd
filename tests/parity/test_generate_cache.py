"""A cache kept between calls: HF's bits of HF's own second turn, what is forgotten, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import biject
from biject.errors import InputError
from biject.model import Model
from biject.nn.native import build
from biject.pretrained import load
from biject.verify.hf import quiet
from parity.harness import hf_model
from parity.test_generate import DECODERS, WIDER, ids_of

Make = Callable[..., Path]
WIDE = {"hidden_size": 128, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2}
TOLD = {"return_dict_in_generate": True, "output_logits": True, "output_scores": True, "eos_token_id": -1}


def model_of(make: Make, model_type: str, dtype: Any = "auto", **overrides: Any) -> Model:
    wider = {"vocab_size": 1200, **WIDER.get(model_type, {}), **overrides}
    return load(make(model_type, "causal", overrides=wider), dtype=dtype)


def pair(
    ours: Model, theirs: Any, ids: torch.Tensor, mask: torch.Tensor, before: Any = None, **more: Any
) -> tuple[Any, Any]:
    given = [{}, {}] if before is None else [{"past_key_values": one.past_key_values} for one in before]
    mine = ours.generate(ids, mask, **TOLD, **given[0], **more)
    with quiet():
        return mine, theirs.generate(ids, attention_mask=mask, **TOLD, **given[1], **more)


def assert_same_bits(mine: Any, theirs: Any) -> None:
    assert mine.sequences.tolist() == theirs.sequences.tolist()
    for name in ("logits", "scores"):
        assert len(mine[name]) == len(theirs[name])
        assert [torch.equal(a, b.float()) for a, b in zip(mine[name], theirs[name], strict=True)].count(
            False
        ) == 0


def longer(ids: torch.Tensor, mask: torch.Tensor, new: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What the user says next, after these texts."""
    grown = torch.cat([ids, ids_of(len(ids), new, seed=9)], dim=1)
    return grown, torch.cat([mask, mask.new_ones(len(ids), grown.shape[1] - mask.shape[1])], dim=1)


@pytest.mark.parametrize("dtype", ["auto", torch.bfloat16], ids=str)
@pytest.mark.parametrize("model_type", DECODERS)
def test_three_turns(model_type: str, dtype: Any, reference: Make) -> None:
    """Past windows, alone and padded: the bits of HF's turns with HF's cache."""
    ours = model_of(reference, model_type, dtype)
    theirs = hf_model(ours.source.folder, ours, **({} if dtype == "auto" else {"dtype": dtype}))
    for ids, hidden in ((ids_of(1, 9), 0), (ids_of(2, 20), 6)):
        mask = torch.ones_like(ids)
        mask[-1, :hidden] = 0
        found = None
        for new in (7, 1, 5):
            found = pair(ours, theirs, ids, mask, found, max_new_tokens=6)
            assert_same_bits(*found)
            cache = found[0].past_key_values
            assert cache.get_seq_length() == found[0].sequences.shape[1] - 1
            ids, mask = longer(found[0].sequences, mask, new)
        assert cache.num_reused == ids.shape[1] - 5 - 6 - 1 - 1


def test_a_sequence_alone_fills_a_cache_that_is_given(reference: Make) -> None:
    ours = model_of(reference, "llama")
    cache = biject.Cache()
    first = ours.generate(ids_of(1, 9), past_key_values=cache, max_new_tokens=4)
    assert isinstance(first, torch.Tensor)
    assert (cache.get_seq_length(), cache.num_reused) == (12, 0)
    assert cache.num_bytes == 2 * 12 * sum(
        spec.num_key_value_heads * spec.head_dim * 4 for spec in ours.attention_specs
    )
    again = ours.generate(ids_of(1, 9), past_key_values=cache, max_new_tokens=4)
    assert again.tolist() == first.tolist()
    assert cache.num_reused == 8  # the last column is always computed


@pytest.mark.parametrize("model_type", DECODERS)
def test_texts_that_part_from_what_is_held(model_type: str, reference: Make) -> None:
    """The same tokens as without a cache, from any place on, and past windows."""
    ours = model_of(reference, model_type)
    ids = ids_of(1, 30)
    cache = biject.Cache()
    ours.generate(ids, past_key_values=cache, max_new_tokens=12)
    for at in (29, 17, 0, 25):
        other = ids_of(1, 34, seed=at + 1)
        other[:, :at] = ids[:, :at]
        plain = ours.generate(other, max_new_tokens=8, **TOLD)
        found = ours.generate(other, max_new_tokens=8, past_key_values=cache, **TOLD)
        assert cache.num_reused == at
        assert found.sequences.tolist() == plain.sequences.tolist()
        torch.testing.assert_close(found.logits, plain.logits, rtol=0, atol=1e-4)
        ids = other
    cache.crop(20)
    cache.crop(-5)
    assert cache.get_seq_length() == 15
    found = ours.generate(ids, max_new_tokens=8, past_key_values=cache)
    assert cache.num_reused == 15
    assert found.tolist() == plain.sequences.tolist()


def test_a_column_too_many_is_seen(reference: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: one column of another text is taken for ours."""
    ours = model_of(reference, "llama")
    ids, other = ids_of(1, 20), ids_of(1, 20, seed=4)
    other[:, :10] = ids[:, :10]
    plain = ours.generate(other, max_new_tokens=3, **TOLD)
    cache = biject.Cache()
    ours.generate(ids, past_key_values=cache, max_new_tokens=3)
    honest = biject.Cache._equal_columns
    monkeypatch.setattr(biject.Cache, "_equal_columns", lambda *given: honest(*given) + 1)
    found = ours.generate(other, max_new_tokens=3, past_key_values=cache, **TOLD)
    assert (found.logits[0] - plain.logits[0]).abs().max() > 1e-3


def test_padding_is_part_of_a_text(reference: Make) -> None:
    """The same ids under another mask are other texts; ids under padding do not matter."""
    ours = model_of(reference, "gpt2")
    ids = ids_of(2, 12)
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    cache = biject.Cache()
    ours.generate(ids, mask, past_key_values=cache, max_new_tokens=3)
    unseen = ids.clone()
    unseen[1, :4] = 7
    ours.generate(unseen, mask, past_key_values=cache, max_new_tokens=3)
    assert cache.num_reused == 11
    found = ours.generate(ids, torch.ones_like(ids), past_key_values=cache, max_new_tokens=3)
    assert cache.num_reused == 0
    assert found.tolist() == ours.generate(ids, torch.ones_like(ids), max_new_tokens=3).tolist()


def test_copies_go_their_own_ways(reference: Make) -> None:
    ours = model_of(reference, "mistral")
    start, cache = ids_of(1, 25), biject.Cache()
    ours.generate(start, past_key_values=cache, max_new_tokens=1)
    texts = [torch.cat([start, ids_of(1, 6, seed=n)], dim=1) for n in (5, 6)]
    for text, own in zip(texts, [copy.deepcopy(cache), copy.deepcopy(cache)], strict=True):
        found = ours.generate(text, past_key_values=own, max_new_tokens=5)
        assert own.num_reused == 25
        assert found.tolist() == ours.generate(text, max_new_tokens=5).tolist()
    assert cache.get_seq_length() == 25


def test_an_interrupted_text_is_held_as_far_as_it_came(reference: Make) -> None:
    class Impatient:
        count = 0

        def put(self, value: torch.Tensor) -> None:
            self.count += 1
            if self.count == 4:
                raise KeyboardInterrupt

        def end(self) -> None: ...

    ours, ids = model_of(reference, "qwen2"), ids_of(1, 15)
    cache, whole = biject.Cache(), ours.generate(ids, max_new_tokens=9)
    with pytest.raises(KeyboardInterrupt):
        ours.generate(ids, past_key_values=cache, max_new_tokens=9, streamer=Impatient())
    assert cache.get_seq_length() == 15 + 2
    assert ours.generate(ids, past_key_values=cache, max_new_tokens=9).tolist() == whole.tolist()


def test_what_the_numbers_depend_on(reference: Make) -> None:
    """Changed parameters, adapters, another dtype of the model: nothing old is used."""
    ours, ids = model_of(reference, "llama"), ids_of(1, 12)
    cache = biject.Cache()

    def reused() -> int:
        found = ours.generate(ids, past_key_values=cache, max_new_tokens=3)
        assert found.tolist() == ours.generate(ids, max_new_tokens=3).tolist()
        return cache.num_reused

    assert [reused(), reused()] == [0, 11]
    with torch.no_grad():
        ours.layers[0].attn.k_proj.weight *= 2
    assert [reused(), reused()] == [0, 11]
    ours.add_adapter(biject.LoraConfig(r=2, init_lora_weights=False), "one")
    assert [reused(), reused()] == [0, 11]
    with ours.disable_adapter():
        assert [reused(), reused()] == [0, 11]
    assert reused() == 0
    ours.to(torch.float64)
    assert [reused(), reused()] == [0, 11]


@pytest.mark.skipif(build.compiler() is None, reason="needs a C compiler")
def test_other_numerics_compute_anew(reference: Make) -> None:
    ours, ids = model_of(reference, "llama", **WIDE), ids_of(2, 12)
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    cache, found = biject.Cache(), []
    for form in ({}, {"numerics": "fast"}, {"quantization": "int8"}, {"quantization": "int4"}):
        first = ours.generate(ids, mask, past_key_values=cache, max_new_tokens=5, **form)
        found.append(cache.num_reused)
        more, real = longer(first, mask, 3)
        second = ours.generate(more, real, past_key_values=cache, max_new_tokens=5, **form)
        found.append(cache.num_reused)
        alone = copy.deepcopy(cache)
        alone.crop(0)
        plain = ours.generate(more, real, past_key_values=alone, max_new_tokens=5, **form)
        if "quantization" not in form:  # codes wrote the answers' keys, the full matrices read the prompt
            assert second.tolist() == plain.tolist()
    assert found == [0, 16] * 4


@pytest.mark.parametrize("scaling", ["dynamic", "longrope"])
def test_positions_that_depend_on_the_length(scaling: str, reference: Make) -> None:
    """Beyond the original length all columns have other angles: computed anew, as without a cache."""
    rope: dict[str, Any] = {"rope_type": scaling, "factor": 4.0}
    if scaling == "longrope":
        half = 8
        rope |= {"short_factor": [1.0] * half, "long_factor": [2.0] * half}
        rope["original_max_position_embeddings"] = 24
    sizes = {"head_dim": 16, "max_position_embeddings": 24 if scaling == "dynamic" else 96}
    ours = model_of(reference, "llama", rope_scaling=rope, **sizes)
    cache, ids = biject.Cache(), ids_of(1, 10)
    found = []
    for new in (4, 4, 8, 8):
        first = ours.generate(ids, past_key_values=cache, max_new_tokens=4)
        found.append(cache.num_reused)
        assert first.tolist() == ours.generate(ids, max_new_tokens=4).tolist()
        ids = longer(first, torch.ones_like(first), new)[0]
    assert found == [0, 13, 0, 0]
    short = ids[:, :12]
    assert ours.generate(short, past_key_values=cache, max_new_tokens=4).tolist() == (
        ours.generate(short, max_new_tokens=4).tolist()
    )
    assert cache.num_reused == 0  # what is held of it was computed for a long text


def test_what_does_not_fit(reference: Make) -> None:
    import transformers

    ours, ids = model_of(reference, "llama"), ids_of(1, 8)
    cache = ours.generate(ids, max_new_tokens=2, return_dict_in_generate=True).past_key_values
    other = load(ours.source.folder)
    with pytest.raises(InputError, match="of another model"):
        other.generate(ids, past_key_values=cache, max_new_tokens=2)
    with pytest.raises(InputError, match="holds 1 texts and the call has 3"):
        ours.generate(ids_of(3, 8), past_key_values=cache, max_new_tokens=2)
    with pytest.raises(InputError, match=r"must be a `biject.Cache`.*found DynamicCache"):
        ours.generate(ids, past_key_values=transformers.DynamicCache(), max_new_tokens=2)
    cache.crop(0)
    assert ours.generate(ids_of(3, 8), past_key_values=cache, max_new_tokens=2).shape == (3, 10)
    cache.crop(0)
    assert ours.generate(ids_of(2, 8), past_key_values=cache, max_new_tokens=2).shape == (2, 10)
    with pytest.raises(KeyError):
        ours.generate(ids, max_new_tokens=2, return_dict_in_generate=True)["logits"]


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_memory_that_does_not_suffice(numerics: Any, reference: Make) -> None:
    """One error that names the length; a cache that was to grow is used again."""
    ours, ids, cache = model_of(reference, "llama"), ids_of(1, 9), biject.Cache()
    plain = {"eos_token_id": -1, "numerics": numerics, "max_new_tokens": 4}
    first = ours.generate(ids, past_key_values=cache, **plain)
    for more in ({}, {"past_key_values": cache}):
        with pytest.raises(InputError, match=r"not suffice for 1 text of up to 1000000000000009 tokens"):
            ours.generate(ids, **{**plain, "max_new_tokens": 10**15}, **more)
    with pytest.raises(InputError, match=r"not suffice for 1000000000000000 texts of up to 13 tokens"):
        ours.generate(ids, num_return_sequences=10**15, do_sample=True, **plain)
    assert ours.generate(ids, past_key_values=cache, **plain).tolist() == first.tolist()
    assert cache.get_seq_length() == 12
