"""`biject generate`: prompts and conversations on tiny checkpoints; bad input is one line and code 2."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers")  # makes the reference checkpoints

from biject.verify.hf import quiet
from biject.verify.reference import make_reference


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[tuple[str, str], Path] = {}

    def get(model_type: str = "llama", head: str = "causal") -> Path:
        if (model_type, head) not in made:
            place = tmp_path_factory.mktemp("models") / model_type
            made[model_type, head] = make_reference(model_type, head, place)
        return made[model_type, head]

    return get


def given(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(text)))


def results(outcome: Any) -> list[dict[str, Any]]:
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert set(document) == {"model", "seed", "results"}
    return document["results"]


def hf_tokens(place: Path, prompt: str, **arguments: Any) -> list[int]:
    import transformers

    with quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(place)
        model = transformers.AutoModelForCausalLM.from_pretrained(place)
        inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        return model.generate(**inputs, **arguments)[0, inputs["input_ids"].shape[1] :].tolist()


def test_prompts_from_arguments_and_standard_input(run, folder, monkeypatch) -> None:
    place = folder()
    found = results(run("generate", place, "a fox", "dogs", "--max-new-tokens", 9, "--greedy", "--json"))
    assert [row["prompt"] for row in found] == ["a fox", "dogs"]
    assert found[0]["tokens"] == hf_tokens(place, "a fox", max_new_tokens=9, do_sample=False)
    plain = run("generate", place, "a fox", "--max-new-tokens", 9)
    assert plain.out == f"a fox{found[0]['text']}\n"
    given(monkeypatch, b"a fox\n")
    assert run("generate", place, "--max-new-tokens", 9).out == plain.out


def test_a_seed_draws_the_same_tokens(run, folder) -> None:
    place = folder("gpt2")
    flags = ("--max-new-tokens", 9, "--temperature", 0.9, "--top-k", 30, "--top-p", 0.9, "--min-p", 0.01)
    flags = (*flags, "--repetition-penalty", 1.2, "--json")
    draws = [results(run("generate", place, "a fox", *flags, "--seed", seed)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    torch.manual_seed(1)
    theirs = hf_tokens(
        place, "a fox", max_new_tokens=9, do_sample=True, temperature=0.9, top_k=30, top_p=0.9, min_p=0.01,
        repetition_penalty=1.2,
    )  # fmt: skip
    assert draws[0][0]["tokens"] == theirs
    seeds = {json.loads(run("generate", place, "a", "--sample", "--json").out)["seed"] for _ in range(2)}
    assert len(seeds) == 2


def test_stop_strings_end_a_text(run, folder) -> None:
    place = folder("gpt2")
    whole = results(run("generate", place, "a fox", "--max-new-tokens", 30, "--json"))[0]["text"]
    stop = whole[5:7]
    flags = ("--max-new-tokens", 30, "--stop", stop, "--json")
    cut = results(run("generate", place, "a fox", *flags))[0]["text"]
    assert stop in cut
    assert whole.startswith(cut)
    assert len(cut) < len(whole)


def test_a_conversation(run, folder, monkeypatch) -> None:
    """Each line is a turn; the second prompt holds the first turn and its answer."""
    given(monkeypatch, b"a fox\n\ndogs\n")
    outcome = run("generate", folder(), "--chat", "--max-new-tokens", 5, "--json")
    first, second = results(outcome)
    assert (first["prompt"], second["prompt"]) == ("a fox", "dogs")
    assert second["num_prompt_tokens"] > first["num_prompt_tokens"] + 5
    assert "conversations" in outcome.err
    said = results(run("generate", folder(), "a fox", "dogs", "--chat", "--max-new-tokens", 5, "--json"))
    assert said == [first, second]


def test_a_conversation_keeps_its_cache(run, folder, monkeypatch) -> None:
    """The second turn begins with the first prompt's columns; its answer is that without a cache."""
    from biject.generate.cache import Cache

    talk = ("generate", folder(), "a fox", "dogs", "cats", "--chat", "--max-new-tokens", 6, "--json")
    found = results(run(*talk))
    assert found[0]["num_cached_tokens"] == 0
    for before, turn in pairwise(found):
        assert before["num_prompt_tokens"] <= turn["num_cached_tokens"] < turn["num_prompt_tokens"]
    monkeypatch.setattr(Cache, "_equal_columns", lambda *_: 0)
    plain = results(run(*talk))
    assert [turn["num_cached_tokens"] for turn in plain] == [0, 0, 0]
    assert [turn["tokens"] for turn in plain] == [turn["tokens"] for turn in found]
    alone = results(run("generate", folder(), "a fox", "--json"))[0]
    assert "num_cached_tokens" not in alone


@pytest.mark.parametrize("more", [(), ("--max-new-tokens", 5)])
def test_a_conversation_that_is_full_is_not_lost(run, folder, monkeypatch, more) -> None:
    given(monkeypatch, b"a\n" + b"a fox " * 60 + b"\nb\n")
    outcome = run("generate", folder("gpt2"), "--chat", "--json", *more)
    assert outcome.code == 2
    assert "the conversation is full with 1 answer, begin a new one: " in outcome.err
    assert [row["prompt"] for row in json.loads(outcome.out)["results"]] == ["a"]
    given(monkeypatch, b"a fox " * 60 + b"\n")
    first = run("generate", folder("gpt2"), "--chat", "--json", *more)
    assert (first.code, first.out) == (2, "")
    assert "conversation is full" not in first.err


def test_an_interrupt_ends_the_answer_alone(run, folder, monkeypatch) -> None:
    """Ctrl-C in a chat: what was written is the answer, and the talk goes on; elsewhere all ends."""
    from biject.pretrained import PretrainedModel as Model

    given(monkeypatch, b"a fox\ndogs\n")
    own, calls = Model.generate, []

    def interrupted(self, *arguments, streamer, **options):
        calls.append(arguments[0].shape[1])
        if len(calls) != 1:
            return own(self, *arguments, streamer=streamer, **options)
        put, count = streamer.put, []

        def third(ids):
            put(ids)
            count.append(1)
            if len(count) == 4:  # the prompt, and three tokens
                raise KeyboardInterrupt

        monkeypatch.setattr(streamer, "put", third)
        return own(self, *arguments, streamer=streamer, **options)

    monkeypatch.setattr(Model, "generate", interrupted)
    first, second = results(run("generate", folder(), "--chat", "--max-new-tokens", 9, "--json"))
    assert len(first["tokens"]) == 3
    assert len(second["tokens"]) == 9
    assert calls[1] > calls[0] + 2  # the second prompt holds what was written of the first answer
    calls.clear()
    assert run("generate", folder(), "a fox", "--max-new-tokens", 9).code == 130


@pytest.mark.parametrize(
    "said, count",
    [
        ({"max_new_tokens": 7}, 7),
        ({"max_length": 12}, 12),
        ({"max_new_tokens": 7, "max_length": 12}, 7),
        ({"max_new_tokens": 9999}, None),  # as far as the table goes
        ({}, None),
    ],
)
def test_the_folder_says_how_long_texts_are(run, folder, tmp_path, said, count) -> None:
    place = tmp_path / "model"
    shutil.copytree(folder("gpt2"), place)
    (place / "generation_config.json").write_text(json.dumps(said))
    found = results(run("generate", place, "a fox", "--json"))[0]
    prompt = found["num_prompt_tokens"]
    table = json.loads((place / "config.json").read_text())["n_positions"]
    most = min(100, table + 1 - prompt) if count is None else count
    assert len(found["tokens"]) == (most - prompt if said == {"max_length": 12} else most)
    more = results(run("generate", place, "a fox", "--max-new-tokens", 3, "--json"))[0]
    assert len(more["tokens"]) == 3


def test_a_tables_room_limits_what_is_not_asked_for(run, folder) -> None:
    place = folder("gpt2")
    table = json.loads((place / "config.json").read_text())["n_positions"]
    found = results(run("generate", place, "a fox", "--json", "--greedy"))[0]
    assert found["num_prompt_tokens"] + len(found["tokens"]) <= table + 1


@pytest.mark.parametrize(
    "flags, words",
    [
        (["x", "--temperature", "0"], "`temperature` must be greater than 0"),
        (["x", "--temperature", "-1"], "`temperature` must be a number greater than 0; found -1.0"),
        (["x", "--top-p", "1.5"], "`top_p` must be a number from 0 to 1; found 1.5"),
        (["x", "--min-p", "-0.1"], "`min_p` must be"),
        (["x", "--top-k", "-3"], "`top_k` must be"),
        (["x", "--repetition-penalty", "0"], "`repetition_penalty` must be"),
        (["x", "--max-new-tokens", "0"], "`max_new_tokens` must be"),
        (["x", "--seed", str(2**64)], "`seed` must be a whole number"),
        (["x", "--max-new-tokens", str(10**20)], "`max_new_tokens` must be below"),
        (["x", "--stop", ""], "`stop_strings` must be"),
        (["x", "--greedy", "--top-k", "3"], "--top-k is about drawing"),
        ([""], "the prompt is empty"),
        (["a fox " * 60], "table of positions ends at"),
        (["a", "--max-new-tokens", "500"], "do not fit the model's table"),
    ],
)
def test_bad_input(run, folder, flags: list[str], words: str) -> None:
    outcome = run("generate", folder("gpt2"), *flags)
    assert outcome.code == 2
    assert words in outcome.err
    assert "Traceback" not in outcome.err


def test_other_heads_and_other_commands(run, folder) -> None:
    outcome = run("generate", folder("bert", "mlm"), "x")
    assert outcome.code == 2
    assert "causal" in outcome.err
    outcome = run("predict", folder(), "x")
    assert outcome.code == 2
    assert "biject generate" in outcome.err


def test_weights_that_are_not_numbers(run, folder, tmp_path) -> None:
    place = tmp_path / "broken"
    place.mkdir()
    for file in folder("gpt2").iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    tensors = load_file(place / "model.safetensors")
    tensors["transformer.ln_f.weight"][0] = float("nan")
    save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
    for flags in ((), ("--sample",)):
        outcome = run("generate", place, "a fox", *flags)
        assert outcome.code == 2
        assert "logits are NaN or infinite" in outcome.err


def bare_writer(**attributes: Any) -> Any:
    from biject.cli.generating import Writer

    writer = Writer.__new__(Writer)
    writer.__dict__.update(quiet=False, **attributes)
    return writer


def test_the_end_of_a_chatml_turn_ends_an_answer(folder) -> None:
    place = folder()
    said = json.loads((place / "generation_config.json").read_text()).get("eos_token_id")
    source = SimpleNamespace(folder=place, config={})
    known = SimpleNamespace(backend=SimpleNamespace(token_to_id={"<|im_end|>": 77}.get))
    writer = bare_writer(model=SimpleNamespace(source=source), tokenizer=known)
    assert writer._ends("… <|im_end|>") == [*([] if said is None else [said]), 77]
    assert writer._ends("another template") is None
    writer.tokenizer = SimpleNamespace(backend=SimpleNamespace(token_to_id={}.get))
    assert writer._ends("… <|im_end|>") is None


def test_a_terminal_is_not_given_what_it_would_obey(monkeypatch, capsys) -> None:
    writer = bare_writer()
    writer._print("a\x1b[2J\n")
    assert capsys.readouterr().out == "a\x1b[2J\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    writer._print("é\x1b[2J\n\t")
    assert capsys.readouterr().out == "é\\x1b[2J\n\t"
