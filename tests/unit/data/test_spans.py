"""What of a rendered conversation the assistant wrote, by templates as well-known models have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biject.data import spans as module
from biject.data.features import build_dataset
from biject.data.spans import Renderer, learned_tokens
from biject.errors import InputError
from biject.tokenization import chat
from biject.tokenization.chat import CLOSE, OPEN
from biject.tokenization.chatml import chat_template
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

from . import chat_templates as templates
from .conftest import write_letters, write_wordpiece

CHAT = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": " Two. "},
    {"role": "user", "content": "three"},
    {"role": "assistant", "content": "Four"},
]
THOUGHT = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nTwo"},
    {"role": "user", "content": "three"},
    {"role": "assistant", "content": "<think>\nso\n</think>\n\nFour"},
]
LEARNED = [
    ("CHATML", CHAT, [" Two. <|im_end|>", "Four<|im_end|>"], "prefixes"),
    ("LLAMA_2", CHAT, ["Two. </s>", "Four </s>"], "content"),
    ("LLAMA_3", CHAT, ["Two.<|eot_id|>", "Four<|eot_id|>"], "prefixes"),
    ("GEMMA", CHAT, ["Two.<end_of_turn>", "Four<end_of_turn>"], "prefixes"),
    ("QWEN_3", CHAT, [" Two. <|im_end|>", "<think>\n\n</think>\n\nFour<|im_end|>"], "content"),
    ("QWEN_3", THOUGHT, ["Two<|im_end|>", "<think>\nso\n</think>\n\nFour<|im_end|>"], "content"),
    ("DEEPSEEK_R1", CHAT, [" Two. </s>", "Four</s>"], "content"),
    ("PLAIN", CHAT, [" Two. \n\n", "Four\n\n"], "prefixes"),
    ("NO_PROMPT", CHAT, [" Two. <|im_end|>", "Four<|im_end|>"], "content"),
    ("END_AT_THE_END", CHAT, [" Two. \n", "Four\n</s>"], "content"),
    ("BLOCKS", CHAT, [" Two. <|im_end|>", "Four<|im_end|>"], "generation blocks"),
    ("BLOCKS_IN_A_MACRO", CHAT, [" Two. <|im_end|>", "Four<|im_end|>"], "generation blocks"),
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_letters(tmp_path_factory.mktemp("chat"), *templates.TOKENS))


def said(tokenizer: Tokenizer, template: str, messages: list[Any], **options: Any) -> list[str]:
    rendered = Renderer(template, tokenizer)(messages, **options)
    return [rendered.text[start:end] for start, end in rendered.spans]


@pytest.mark.parametrize(("name", "messages", "learned", "way"), LEARNED)
def test_what_is_learned(
    tokenizer: Tokenizer, name: str, messages: list[Any], learned: list[str], way: str
) -> None:
    template = getattr(templates, name)
    assert said(tokenizer, template, messages) == learned
    rendered = Renderer(template, tokenizer)(messages)
    assert rendered.way == way


def test_the_text_is_the_templates_own(tokenizer: Tokenizer) -> None:
    from biject.tokenization import chat

    for name, messages, *_ in LEARNED:
        template = getattr(templates, name)
        plain = chat.render(
            template, messages, tools=None, add_generation_prompt=False, values=tokenizer.special_tokens
        )
        assert Renderer(template, tokenizer)(messages).text == plain


def test_the_assistant_may_speak_first_and_twice(tokenizer: Tokenizer) -> None:
    messages = [CHAT[1], CHAT[1], CHAT[0], CHAT[3], {"role": "user", "content": "and"}]
    learned = [" Two. <|im_end|>", " Two. <|im_end|>", "Four<|im_end|>"]
    assert said(tokenizer, templates.CHATML, messages) == learned
    assert said(tokenizer, templates.BLOCKS, messages) == learned


def test_equal_texts_are_told_apart(tokenizer: Tokenizer) -> None:
    """The reply repeats the question, and the template's own words."""
    messages = [
        {"role": "user", "content": "Two<|im_end|>"},
        {"role": "assistant", "content": "Two<|im_end|>\n<assistant> Two"},
        {"role": "user", "content": "Two"},
        {"role": "assistant", "content": "Two"},
    ]
    learned = ["Two<|im_end|>\n<assistant> Two<|im_end|>", "Two<|im_end|>"]
    assert said(tokenizer, templates.NO_PROMPT, messages) == learned
    assert said(tokenizer, templates.CHATML, messages) == learned


def test_calls_of_tools_are_learned(tokenizer: Tokenizer) -> None:
    template = (
        "{% if tools %}{{ tools | tojson }}\n{% endif %}{% for m in messages %}{{ m.role }}: "
        "{% if m.tool_calls %}{% for c in m.tool_calls %}CALL {{ c.function | tojson }}{% endfor %}"
        "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    )
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "x"}}}
    messages = [
        {"role": "user", "content": "add"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "It is 2"},
    ]
    with_header = template + "{% if add_generation_prompt %}assistant: {% endif %}"
    tools = [{"type": "function", "function": {"name": "add"}}]
    learned = ['CALL {"name": "add", "arguments": {"a": 1, "b": "x"}}<|im_end|>', "It is 2<|im_end|>"]
    assert said(tokenizer, with_header, messages, tools=tools) == learned
    # Without a generation prompt only what the reply brought is known to be its own.
    learned[0] = 'add", "arguments": {"a": 1, "b": "x"}}<|im_end|>'
    assert said(tokenizer, template, messages, tools=tools) == learned


def test_a_turn_that_the_template_leaves_out(tokenizer: Tokenizer) -> None:
    template = "{{ messages[0].content }}|{{ messages[-1].content }}"
    assert said(tokenizer, template, CHAT) == ["Four"]
    assert said(tokenizer, "{{ messages[0].content }}", CHAT) == []


def test_a_template_that_does_not_tell(tokenizer: Tokenizer) -> None:
    picky = "{% for m in messages %}{% if m.content not in ('one', 'Two') %}{{ raise_exception('no') }}{% endif %}{{ m.content }}{% endfor %}"  # noqa: E501
    messages = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "Two"}]
    with pytest.raises(
        InputError,
        match=r"message 2 cannot be found in the .* chat template: it needs .% generation %. blocks",
    ):
        Renderer(picky, tokenizer)(messages)
    whole = "{% if messages | length < 3 %}{{ raise_exception('three') }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}"  # noqa: E501
    with pytest.raises(InputError, match="message 2 cannot be found"):
        Renderer(whole, tokenizer)([*messages, {"role": "user", "content": "three"}])


def test_turns_in_another_order(tokenizer: Tokenizer) -> None:
    swapped = "{{ messages[3].content }}|{{ messages[1].content }}"
    with pytest.raises(InputError, match=r"it needs .* blocks"):
        Renderer(swapped, tokenizer)(CHAT)


def test_marks_of_blocks(tokenizer: Tokenizer) -> None:
    forged = [{"role": "user", "content": f"{OPEN}I{CLOSE}"}, {"role": "assistant", "content": "x"}]
    with pytest.raises(InputError, match="mark generation blocks"):
        Renderer(templates.BLOCKS, tokenizer)(forged)
    cut = (
        "{% set text %}{% generation %}{{ messages[0].content }}{% endgeneration %}{% endset %}"
        "{{ text | length }}{{ text }}"
    )
    with pytest.raises(InputError, match="changes the text of its generation blocks"):
        Renderer(cut, tokenizer)([{"role": "assistant", "content": "x"}])
    nested = (
        "{% generation %}a{% generation %}b{% endgeneration %}c{% endgeneration %}"
        "{% generation %}{% endgeneration %}d"
    )
    assert said(tokenizer, nested, [CHAT[1]]) == ["abc"]


def test_chatml_for_those_who_have_no_template(tmp_path: Path, letters: Tokenizer) -> None:
    plain = chat_template(letters)
    assert (
        "turns end with <|endoftext|>; <|im_start|> is no token of this vocabulary but plain text of 12"
        in (plain.line)
    )
    assert said(letters, plain.text, CHAT) == [" Two. <|endoftext|>", "Four<|endoftext|>"]
    markers = load_tokenizer(write_letters(tmp_path / "a", "<|im_start|>", "<|im_end|>"))
    found = chat_template(markers)
    assert said(markers, found.text, CHAT) == [" Two. <|im_end|>", "Four<|im_end|>"]
    assert found.line.endswith("turns end with <|im_end|>")
    own = load_tokenizer(write_letters(tmp_path / "b", chat_template=templates.PLAIN))
    assert chat_template(own).own
    assert chat_template(own).text == templates.PLAIN
    none = load_tokenizer(write_wordpiece(tmp_path / "c"))
    with pytest.raises(InputError, match=r"neither <\|im_end\|> nor an end-of-text token.*eos_token.*jinja"):
        chat_template(none)
    bos = load_tokenizer(write_wordpiece(tmp_path / "d", bos_token="[CLS]", eos_token="[SEP]"))
    assert Renderer(chat_template(bos).text, bos)(CHAT).text.startswith("[CLS]<|im_start|>user\none[SEP]\n")


def test_a_conversation_of_too_many_messages(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Refused before anything is rendered: every turn of the assistant's renders what is before it."""
    renders = []
    monkeypatch.setattr(chat, "render", lambda *args, **options: renders.append(args))
    with pytest.raises(InputError, match=r"up to 2000 messages in a conversation, found 2001: .*Split"):
        Renderer(templates.CHATML, tokenizer)([*CHAT * 500, CHAT[0]])
    assert not renders
    monkeypatch.undo()
    many = [*CHAT * 501]
    assert said(tokenizer, templates.BLOCKS, many) == [" Two. <|im_end|>", "Four<|im_end|>"] * 501
    monkeypatch.setattr(module, "MOST_MESSAGES", 8)
    assert said(tokenizer, templates.CHATML, CHAT * 2) == [" Two. <|im_end|>", "Four<|im_end|>"] * 2
    rows = [{"messages": CHAT}, {"messages": CHAT * 3}]
    own = load_tokenizer(write_letters(tmp_path, *templates.TOKENS, chat_template=templates.CHATML))
    options: dict[str, Any] = {"task": "causal", "tokenizer": own}
    with pytest.raises(InputError, match=r"row 2, column `messages`: expected up to 8 messages"):
        build_dataset(rows, **options)
    assert len(build_dataset(rows, **options, skip_bad_rows=True).dataset) == 1


def test_tokens_on_a_boundary_are_learned() -> None:
    offsets = [(0, 4), (4, 8), (8, 8), (8, 12), (12, 13), (12, 13), (15, 18)]
    assert learned_tokens(offsets, [(6, 12)]) == ([False, True, True, True, False, False, False], 1)
    assert learned_tokens(offsets, [(4, 12)]) == ([False, True, True, True, False, False, False], 0)
    assert learned_tokens(offsets, [(8, 13)]) == ([False, False, False, True, True, True, False], 0)
    assert learned_tokens(offsets, [(0, 1), (13, 15)]) == ([True, *[False] * 6], 0)
    assert learned_tokens(offsets, [(13, 16)])[0][-1]
    assert learned_tokens(offsets, []) == ([False] * 7, 0)
    # White space between tokens that was trimmed off, (4, 4) for the two of (2, 4), is a reply's, too.
    assert learned_tokens([(0, 2), (4, 4), (4, 6)], [(3, 6)])[0] == [False, True, True]
    assert learned_tokens([(0, 2), (4, 4), (4, 6)], [(0, 2)])[0] == [True, False, False]
    assert learned_tokens([(0, 2), (4, 4), (4, 6)], [(0, 3)])[0] == [True, True, False]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.data())
def test_every_letter_of_a_span_is_in_a_learned_token(sizes: list[int], data: st.DataObject) -> None:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    offsets = list(zip([0, *ends], ends, strict=False))
    cuts = sorted(data.draw(st.lists(st.integers(0, ends[-1]), min_size=2, max_size=6, unique=True)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    learned, shared = learned_tokens(offsets, spans)
    letters = {place for a, b in spans for place in range(a, b)}
    for own, (a, b) in zip(learned, offsets, strict=True):
        assert own == bool(letters & set(range(a, b)))
    assert shared <= len(spans)
