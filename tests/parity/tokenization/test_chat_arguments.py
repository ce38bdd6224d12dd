"""`apply_chat_template` with transformers' arguments, beside transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from biject.errors import InputError
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

from .cases import CASES

TEMPLATES = {
    "as it is": "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}",
    "cut": "{% for m in messages %}<{{ m.role }}> {{ m.content | trim }} </s>{% endfor %}",
    "switches": "{{ documents }}{{ mood }}{% for m in messages %}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}>{% endif %}",
}
CHAT = [{"role": "user", "content": "the good fox"}, {"role": "assistant", "content": "jumps over "}]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    import transformers

    folder: Path = tmp_path_factory.mktemp("chat") / "t"
    CASES["byte-bpe roberta"](folder)
    return load_tokenizer(folder), transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"continue_final_message": True}, {"truncation": True, "max_length": 5}, {"mood": "glad"},
        {"documents": [{"title": "a", "text": "b"}]}, {"add_generation_prompt": True},
        {"padding": "max_length", "max_length": 40},
    ],
)  # fmt: skip
def test_texts_and_ids(name: str, arguments: dict[str, Any], pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    how = {"chat_template": TEMPLATES[name], **arguments}
    text = theirs.apply_chat_template(CHAT, tokenize=False, **how)
    assert ours.apply_chat_template(CHAT, tokenize=False, **how) == text
    ids = theirs.apply_chat_template(CHAT, return_dict=False, **how)
    assert ours.apply_chat_template(CHAT, return_dict=False, **how) == ids
    named = theirs.apply_chat_template(CHAT, **how)
    assert {**ours.apply_chat_template(CHAT, **how)} == {**named}
    tensor = theirs.apply_chat_template(CHAT, return_tensors="pt", return_dict=False, **how)
    assert ours.apply_chat_template(CHAT, return_tensors="pt", return_dict=False, **how).equal(tensor)
    tensors = theirs.apply_chat_template(CHAT, return_tensors="pt", **how)
    found = ours.apply_chat_template(CHAT, return_tensors="pt", **how)
    assert all(found[key].equal(tensors[key]) for key in tensors)


def test_what_cannot_go_on(pair: tuple[Tokenizer, Any]) -> None:
    ours, _ = pair
    how: dict[str, Any] = {"continue_final_message": True, "tokenize": False}
    for template in ("{{ messages[0].content }}", "{{ messages[-1].content | upper }}"):
        with pytest.raises(InputError, match="does not give the last message's text"):
            ours.apply_chat_template(CHAT, chat_template=template, **how)
    with pytest.raises(InputError, match="exclude each other"):
        ours.apply_chat_template(CHAT, chat_template="x", add_generation_prompt=True, **how)
    with pytest.raises(InputError, match="whose `content` is a text"):
        ours.apply_chat_template([{"role": "user", "content": [{"text": "a"}]}], chat_template="x", **how)


def test_one_id_is_decoded(pair: tuple[Tokenizer, Any]) -> None:
    import numpy as np
    import torch

    ours, theirs = pair
    ids = theirs("the good fox")["input_ids"]
    for one in (ids[2], torch.tensor(ids[2]), np.int64(ids[2]), torch.tensor(ids), np.array(ids), tuple(ids)):
        assert ours.decode(one) == theirs.decode(one)
    for rows in (
        ids,
        torch.tensor([ids, ids]),
        [torch.tensor(ids)],
        [ids],
        [torch.tensor(one) for one in ids],
    ):
        assert ours.batch_decode(rows) == theirs.batch_decode(rows)
    for wrong in (1.5, None, "x"):
        with pytest.raises(InputError, match="cannot be decoded"):
            ours.decode(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [test_what_cannot_go_on, "get_weather", 3])
def test_a_tool_is_a_schema(value: object, pair: tuple[Tokenizer, Any]) -> None:
    """A function's address would stand in the prompt; transformers makes a schema of it."""
    with pytest.raises(InputError, match=r"a tool is the JSON schema of a function.*get_json_schema"):
        pair[0].apply_chat_template(CHAT, tools=[value], chat_template="{{ tools }}")


@pytest.mark.parametrize("given", [[CHAT, CHAT], CHAT[0], ["the good fox"]])
@pytest.mark.parametrize("how", [{}, {"continue_final_message": True}])
def test_one_conversation_at_a_time(given: Any, how: dict[str, Any], pair: tuple[Tokenizer, Any]) -> None:
    with pytest.raises(InputError, match="a conversation is a list of messages"):
        pair[0].apply_chat_template(given, chat_template=TEMPLATES["as it is"], **how)


def test_only_content_goes_on(pair: tuple[Tokenizer, Any]) -> None:
    with pytest.raises(InputError, match="give True or False"):
        pair[0].apply_chat_template(
            CHAT,
            chat_template=TEMPLATES["as it is"],
            continue_final_message="reasoning",  # type: ignore[arg-type]
        )
