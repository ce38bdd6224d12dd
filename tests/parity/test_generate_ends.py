"""Where generated texts end, what prompts and folders may say, and which calls are refused, beside HF."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.errors import InputError
from biject.pretrained import load
from biject.verify.hf import quiet
from parity.harness import hf_model
from parity.test_generate import VOCABULARY, assert_same, both, ids_of, models, padded

Make = Callable[..., Path]


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
