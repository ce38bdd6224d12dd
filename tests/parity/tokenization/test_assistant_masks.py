"""Which tokens of a conversation are learned, beside transformers' `return_assistant_tokens_mask`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biject.data.spans import Renderer, learned_tokens
from biject.tokenization.chatml import chat_template
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer
from parity.real import CACHE, real_folder

from .cases import CASES

KINDS = (
    "wordpiece bare",
    "byte-bpe roberta",
    "byte-bpe roberta prefix",
    "sentencepiece xlm-roberta",
    "sentencepiece deberta-v2",
    "sentencepiece camembert",
    "sentencepiece llama",
)
BLOCKS = {
    "turn and its end": (
        "{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content }}<|end|>{% endgeneration %}{% else %}{{ m.content }}<|end|>{% endif %}{{ '\\n' }}"
        "{% endfor %}"
    ),
    "content alone": (
        "{% for m in messages %}{% if m.role == 'assistant' %}[A] {% generation %}{{ m.content }}"
        "{% endgeneration %} [/A]{% else %}[U] {{ m.content }} [/U]{% endif %}{% endfor %}"
    ),
    "the last turn alone": (
        "{% for m in messages %}({{ m.role }}){% if m.role == 'assistant' and loop.last %}{% generation %}"
        "{{ m.content }}!{% endgeneration %}{% else %}{{ m.content }}!{% endif %}{% endfor %}"
    ),
    "header and all": (
        "{{ bos_token }}{%- for m in messages %}{%- if m.role == 'assistant' -%}{%- generation -%}"
        "<{{ m.role }}>{{ m.content | trim }}</s>{%- endgeneration -%}{%- else -%}"
        "<{{ m.role }}>{{ m.content | trim }}{%- endif -%}{%- endfor %}"
    ),
}  # fmt: skip

# transformers looks up the first and the last character: that these are letters is what makes it find both.
inner = st.text(alphabet="ab z\n  ,.é日本🙂<|/[]'\t", max_size=12)
content = st.builds("{}{}{}".format, st.sampled_from("abZ7"), inner, st.sampled_from("xyQ"))
conversations = st.lists(st.tuples(content, content), min_size=1, max_size=3).map(
    lambda turns: [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
)


def both(folder: Path) -> tuple[Tokenizer, Any]:
    from transformers import AutoTokenizer

    return load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", params=[*KINDS, "gpt2-bpe"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    if request.param == "gpt2-bpe":
        return both(real_folder("gpt2-bpe"))
    folder = tmp_path_factory.mktemp("made")
    CASES[request.param](folder)
    return both(folder)


def ours(tokenizer: Tokenizer, template: str, messages: list[Any]) -> tuple[list[int], list[int]]:
    rendered = Renderer(template, tokenizer)(messages)
    encoded = tokenizer([rendered.text], add_special_tokens=False)
    return encoded.input_ids[0], list(map(int, learned_tokens(encoded.offsets[0], rendered.spans)[0]))


def theirs(tokenizer: Any, template: str, messages: list[Any]) -> tuple[list[int], list[int]]:
    found = tokenizer.apply_chat_template(
        messages, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
    )
    return found["input_ids"], found["assistant_masks"]


@pytest.mark.parametrize("name", BLOCKS)
@settings(max_examples=40, deadline=None)
@given(messages=conversations)
def test_generation_blocks_as_in_transformers(
    pair: tuple[Tokenizer, Any], name: str, messages: list[Any]
) -> None:
    ids, mask = ours(pair[0], BLOCKS[name], messages)
    other_ids, other_mask = theirs(pair[1], BLOCKS[name], messages)
    assert ids == other_ids
    if pair[0].kind == "Unigram":  # a word's space and first letter are two tokens at one place
        other_mask = whole_last_letters(pair[0], BLOCKS[name], messages, other_mask)
    assert mask == other_mask


def whole_last_letters(
    tokenizer: Tokenizer, template: str, messages: list[Any], mask: list[int]
) -> list[int]:
    """transformers' mask with all tokens of each turn's last letter, of which it takes the first alone."""
    rendered = Renderer(template, tokenizer)(messages)
    offsets = tokenizer([rendered.text], add_special_tokens=False).offsets[0]
    last = {end - 1 for _, end in rendered.spans}
    return [
        own or int(any(a <= place < b for place in last)) for own, (a, b) in zip(mask, offsets, strict=True)
    ]


def test_chatml_is_a_template_for_transformers_too(pair: tuple[Tokenizer, Any]) -> None:
    """What an export carries renders there as here, learned tokens included."""
    if pair[0].eos_token is None:
        pytest.skip("ChatML needs an end-of-text token")
    template = chat_template(pair[0])
    assert not template.own
    messages = [
        {"role": "system", "content": "Be brief.\n"},
        {"role": "user", "content": "  What is it? "},
        {"role": "assistant", "content": "A fox"},
        {"role": "user", "content": "{{ no }}"},
        {"role": "assistant", "content": "B"},
    ]
    assert ours(pair[0], template.text, messages) == theirs(pair[1], template.text, messages)
    prompt = pair[1].apply_chat_template(
        messages[:2], chat_template=template.text, add_generation_prompt=True, tokenize=False
    )
    rendered = Renderer(template.text, pair[0])(messages)
    assert rendered.text.startswith(prompt)
    assert rendered.spans[0][0] == len(prompt)


def words(tokenizer: Tokenizer, ids: list[int], mask: list[int]) -> str:
    return tokenizer.decode([index for index, own in zip(ids, mask, strict=True) if own])


@cache
def gpt2() -> tuple[Tokenizer, Any]:
    return both(real_folder("gpt2-bpe"))


def test_where_transformers_loses_a_turn(tmp_path: Path) -> None:
    """A block that begins with a space, which this tokenizer's offsets leave out: it finds no token there.

    If one of these three fails because its mask is now ours: take the exception out of docs/decoders.md.
    """
    CASES["byte-bpe roberta"](tmp_path)
    tokenizer, other = both(tmp_path)
    template = (
        "{% for m in messages %}{{ m.role }}:"
        "{% generation %} {{ m.content }}\n{% endgeneration %}{% endfor %}"
    )
    messages = [{"role": "assistant", "content": "yes"}]
    assert words(tokenizer, *ours(tokenizer, template, messages)) == " yes\n"
    assert words(tokenizer, *theirs(other, template, messages)) == ""


@pytest.mark.skipif(not (CACHE / "gpt2-bpe").is_dir(), reason="gpt2-bpe is not there")
def test_where_transformers_loses_a_last_letter() -> None:
    """A block that ends with a letter of several tokens: it takes the first of them."""
    tokenizer, other = gpt2()
    template = (
        "{% for m in messages %}{{ m.role }}: {% generation %}{{ m.content }}{% endgeneration %} and on"
        "{% endfor %}"
    )
    messages = [{"role": "assistant", "content": "yes 日"}]
    assert words(tokenizer, *ours(tokenizer, template, messages)) == " yes 日"
    assert words(tokenizer, *theirs(other, template, messages)) == " yes \ufffd"


def test_where_transformers_learns_what_others_say(tmp_path: Path) -> None:
    """A block that ends with white space that the tokenizer drops: all that follows is the assistant's."""
    CASES["wordpiece bare"](tmp_path)
    tokenizer, other = both(tmp_path)
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}\n"
        "{% endgeneration %}{% else %}{{ m.content }}\n{% endif %}{% endfor %}"
    )
    messages = [{"role": "assistant", "content": "the quick"}, {"role": "user", "content": "brown fox"}]
    assert words(tokenizer, *ours(tokenizer, template, messages)) == "the quick"
    assert words(tokenizer, *theirs(other, template, messages)) == "the quick brown fox"


@pytest.mark.skipif(not (CACHE / "gpt2-bpe").is_dir(), reason="gpt2-bpe is not there")
@settings(max_examples=40, deadline=None)
@given(messages=conversations)
def test_prefixes_of_ids(messages: list[Any]) -> None:
    """Where the ids of each prefix begin the whole's, exactly those between two prefixes are learned."""
    tokenizer, other = gpt2()
    template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|endoftext|>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    rendered = Renderer(template, tokenizer)(messages)
    assert rendered.way == "prefixes"
    ids, mask = ours(tokenizer, template, messages)

    def part(count: int, **options: bool) -> list[int]:
        found: list[int] = other.apply_chat_template(
            messages[:count], chat_template=template, return_dict=False, **options
        )
        return found

    expected = [0] * len(ids)
    for turn in range(1, len(messages), 2):
        before, after = part(turn, add_generation_prompt=True), part(turn + 1)
        if ids[: len(before)] != before or ids[: len(after)] != after:
            return
        expected[len(before) : len(after)] = [1] * (len(after) - len(before))
    assert mask == expected
