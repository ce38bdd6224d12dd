"""Arguments of generate: what they become, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from biject.errors import InputError
from biject.generate.defaults import Defaults
from biject.generate.scores import generator_of, min_p, penalised, too_early, top_k, top_p
from biject.generate.settings import Settings, settings_of
from biject.generate.stopping import StopStrings


def settings(arguments: dict[str, Any], said: dict[str, Any] | None = None, **options: Any) -> Settings:
    defaults = Defaults(values=said or {}, where="generation_config.json")
    return settings_of(arguments, defaults, **{"prompt": 5, "table": 64, **options})


def test_what_nobody_says() -> None:
    found = settings({})
    assert (found.max_length, found.min_length, found.do_sample) == (25, 0, False)
    assert (found.temperature, found.top_k, found.top_p, found.min_p) == (1.0, 50, 1.0, None)
    assert (found.eos_token_ids, found.pad_token_id, found.stop_strings) == ((), None, ())
    assert settings({}, prompt=50).max_length == 64


def test_arguments_come_before_the_folder() -> None:
    said = {"top_k": 3, "do_sample": True, "eos_token_id": 7, "max_length": 40, "transformers_version": "5"}
    found = settings({"top_k": 9, "top_p": None}, said)
    assert (found.top_k, found.do_sample, found.max_length) == (9, True, 40)
    assert (found.eos_token_ids, found.pad_token_id) == ((7,), 7)
    assert settings({"max_new_tokens": 2}, said).max_length == 7
    assert settings({"min_new_tokens": 2}, said).min_length == 7


@pytest.mark.parametrize(
    "argument, said",
    [
        ({"num_beams": 1}, {"num_beams": 4}),
        ({"no_repeat_ngram_size": 0}, {"no_repeat_ngram_size": 3}),
        ({"temperature": 0.5}, {"temperature": -1.0}),
        ({"eos_token_id": 7}, {"eos_token_id": "</s>"}),
    ],
)
def test_the_call_beats_what_the_folder_could_not_have(argument: Any, said: Any) -> None:
    assert settings(argument, said) == settings(argument)
    with pytest.raises(InputError, match=r"of generation_config\.json"):
        settings(dict.fromkeys(argument), said)


def test_a_folder_may_say_what_changes_no_token() -> None:
    said = {"use_cache": False, "output_attentions": True, "output_hidden_states": True}
    assert settings({}, said) == settings({})
    with pytest.raises(InputError, match=r"`output_attentions` of generation_config\.json is True"):
        settings({"return_dict_in_generate": True}, said)
    with pytest.raises(InputError, match="`use_cache` is False"):
        settings({"use_cache": False})


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"num_beams": 4}, "`num_beams` is 4: that is not supported"),
        ({"typical_p": 0.9}, "not supported"),
        ({"no_repeat_ngram_size": 2}, "not supported"),
        ({"max_tokens": 4}, "takes no `max_tokens`. Did you mean `max_new_tokens`"),
        ({"temperature": 0}, "greater than 0"),
        ({"temperature": float("nan"), "do_sample": True}, "`temperature` must be"),
        ({"temperature": "hot"}, "found 'hot'"),
        ({"top_p": 1.01}, "from 0 to 1"),
        ({"top_p": -0.01}, "from 0 to 1"),
        ({"top_k": 2.5}, "whole number"),
        ({"top_k": True}, "whole number"),
        ({"do_sample": 1}, "True or False"),
        ({"eos_token_id": "</s>"}, "`eos_token_id` must be"),
        ({"stop_strings": ["a", ""]}, "none empty"),
        ({"num_return_sequences": 2}, "the same text"),
        ({"max_length": 5}, "nothing could be added"),
        ({"min_p": 2}, "from 0 to 1"),
        ({"max_new_tokens": 2**62}, "must be below 2**62"),
        ({"temperature": 10**400}, "must be below 2**62"),
        ({"eos_token_id": [3, 2**70]}, "`eos_token_id` must be below 2**62"),
        ({"pad_token_id": 2**70}, "`pad_token_id` must be below 2**62"),
        ({"pad_token_id": torch.tensor([1, 2])}, "`pad_token_id` must be a token's id"),
    ],
)
def test_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        settings(arguments)


def test_a_folders_faults_are_named_as_such() -> None:
    with pytest.raises(InputError, match=r"`top_p` of generation_config.json must be"):
        settings({}, {"top_p": 7})
    with pytest.raises(InputError, match=r"`num_beams` of generation_config.json is 3"):
        settings({}, {"num_beams": 3})
    assert settings({}, {"temperature": 0.0, "do_sample": False, "num_beams": 1}).do_sample is False
    with pytest.raises(InputError, match="greater than 0"):
        settings({"do_sample": True}, {"temperature": 0.0})


def test_processors_on_a_row_that_can_be_checked_by_hand() -> None:
    scores = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()

    def left(found: torch.Tensor) -> list[int]:
        return found.isfinite()[0].nonzero().flatten().tolist()

    assert left(top_k(scores.clone(), 1)) == [0]
    assert left(top_k(scores.clone(), 3)) == [0, 1, 2, 3]  # the third and fourth are as likely
    assert left(top_p(scores.clone(), 0.7)) == [0, 1]
    assert left(top_p(scores.clone(), 0.0)) == [0]
    assert left(min_p(scores.clone(), 0.4)) == [0, 1]
    assert left(min_p(scores.clone(), 1.0)) == [0]
    assert left(too_early(torch.zeros(1, 3), scores.clone(), 4, (0, 9, -1))) == [1, 2, 3]
    assert left(too_early(torch.zeros(1, 4), scores.clone(), 4, (0,))) == [0, 1, 2, 3]
    row = torch.tensor([[4.0, -4.0, 4.0, 4.0]])
    ids = torch.tensor([[3, 0, 1, 0]])
    assert penalised(ids, row.clone(), 2.0, None).tolist() == [[2.0, -8.0, 4.0, 2.0]]
    assert penalised(ids, row.clone(), 2.0, torch.tensor([1])).tolist() == [[2.0, -8.0, 4.0, 4.0]]


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 1.5, "x"])
def test_a_seed_is_of_64_bits(seed: Any) -> None:
    with pytest.raises(InputError, match=r"from -2\*\*63 to 2\*\*64 - 1; found"):
        generator_of(seed)
    assert generator_of(2**64 - 1).initial_seed() == 2**64 - 1


def byte_level() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {chr(c): i for i, c in enumerate(range(ord("a"), ord("z") + 1))}
    vocabulary |= {"Ġ": 26, "Ã": 27, "©": 28, "stop": 29, "er": 30}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


class Bytes:
    """A tokenizer of single bytes and a few pieces."""

    backend = byte_level()


def stops(strings: list[str], *names: str) -> bool:
    ids = [Bytes.backend.token_to_id(name) for name in names]
    return bool(StopStrings(strings, Bytes()).reached(torch.tensor([ids]))[0])


def test_where_a_stop_string_ends() -> None:
    assert stops(["stop"], "a", "stop")
    assert stops(["top"], "a", "stop", "er") is False  # it ended a token earlier
    assert stops(["sto"], "stop")  # its end is inside of the token
    assert stops(["per"], "stop", "er")
    assert stops(["a s"], "a", "Ġ", "stop")
    assert stops(["é"], "Ã", "©")
    assert stops(["é"], "Ã") is False
    assert stops(["x", "é"], "a", "Ã", "©")
    assert stops(["nowhere"], "stop") is False


def test_stop_strings_need_a_tokenizer() -> None:
    with pytest.raises(InputError, match="`tokenizer`"):
        StopStrings(["a"], None)
