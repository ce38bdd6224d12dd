"""Conversations of every form: what is read, what is learned, what is left out, what is refused."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from biject.data.blocks import CausalDataset
from biject.data.dataset import Built
from biject.data.features import build_dataset
from biject.data.rows import load_rows
from biject.errors import InputError
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

from . import chat_templates as templates
from .conftest import write_letters

HELLO = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "you"}]
SHARED = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "you"}]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("chat")
    return load_tokenizer(write_letters(folder, *templates.TOKENS, chat_template=templates.CHATML))


def build(tokenizer: Tokenizer, rows: Any, **options: Any) -> Built:
    return build_dataset(rows, "causal", tokenizer, **options)


def texts(tokenizer: Tokenizer, built: Built) -> list[tuple[str, str]]:
    """Each sample's text, and what of it is learned."""
    return [
        (
            tokenizer.decode(s["input_ids"]),
            tokenizer.decode([label for label in s["labels"] if label != -100]),
        )
        for s in built.dataset
    ]


WHOLE = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nyou<|im_end|>\n"
WITH_SYSTEM = "<|im_start|>system\nbe kind<|im_end|>\n" + WHOLE
FORMS = [
    ({"messages": HELLO}, {}, WHOLE),
    ({"messages": json.dumps(HELLO)}, {}, WHOLE),
    ({"chat": HELLO, "text": "x"}, {"messages_column": "chat"}, WHOLE),
    ({"conversations": SHARED}, {}, WHOLE),
    ({"conversations": json.dumps(SHARED)}, {}, WHOLE),
    ({"messages": SHARED}, {}, WHOLE),
    ({"conversations": HELLO}, {}, WHOLE),
    ({"conversations": [{"from": "system", "value": "be kind"}, *SHARED]}, {}, WITH_SYSTEM),
    ({"conversations": SHARED, "system": "be kind"}, {}, WITH_SYSTEM),
    ({"messages": HELLO, "system": "be kind"}, {}, WITH_SYSTEM),
    ({"messages": HELLO, "system": " "}, {}, WHOLE),
    ({"messages": [{"role": "system", "content": "be kind"}, *HELLO], "system": "be kind "}, {}, WITH_SYSTEM),
    ({"prompt": "hello", "response": "you"}, {}, WHOLE),
    ({"prompt": "hello", "completion": "you", "system": None}, {}, WHOLE),
    ({"system": "be kind", "prompt": "hello", "response": "you"}, {}, WITH_SYSTEM),
    ({"instruction": "hello", "output": "you", "input": ""}, {}, WHOLE),
    ({"instruction": "hello", "output": "you", "input": "there"}, {}, WHOLE.replace("hello", "hello\nthere")),
    ({"q": "hello", "a": "you", "s": "be kind"},
     {"text_column": "q", "label_column": "a", "system_column": "s"}, WITH_SYSTEM),
    ({"q": "hello", "r": "there", "a": "you"}, {"text_column": ("q", "r"), "label_column": "a"},
     WHOLE.replace("hello", "hello\nthere")),
    ({"instruction": "hello", "answer": "you", "text": "all"}, {"label_column": "answer"}, WHOLE),
]  # fmt: skip


@pytest.mark.parametrize(("row", "options", "whole"), FORMS)
def test_forms(tokenizer: Tokenizer, row: dict[str, Any], options: dict[str, Any], whole: str) -> None:
    built = build(tokenizer, [row], **options)
    assert texts(tokenizer, built) == [(whole, "you<|im_end|>")]
    assert isinstance(built.dataset, CausalDataset)
    assert built.dataset.chat_template is None


def test_text_wins_where_it_is_named(tokenizer: Tokenizer) -> None:
    built = build(tokenizer, [{"messages": HELLO, "text": "plain"}], text_column="text")
    assert tokenizer.decode(built.dataset[0]["input_ids"]) == "plain<|endoftext|>"


def test_csv_and_its_lines(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('messages\n"[{""role"": ""user"", ""content"": ""a""}]"\n')
    with pytest.raises(
        InputError, match=r"rows\.csv, line 2, column `messages`: expected a message of the assis"
    ):
        build(tokenizer, load_rows(tmp_path / "rows.csv"))
    (tmp_path / "rows.csv").write_text("system,prompt,response\n,hello,you\nbe kind,hello,you\n")
    built = build(tokenizer, load_rows(tmp_path / "rows.csv"))
    assert [whole for whole, _ in texts(tokenizer, built)] == [WHOLE, WITH_SYSTEM]


def test_the_report(tokenizer: Tokenizer, letters: Tokenizer) -> None:
    rows = [{"messages": HELLO}, {"messages": HELLO * 2}]
    built = build(tokenizer, rows)
    lines = built.report.lines()
    learned = sum(label != -100 for s in built.dataset for label in s["labels"])
    assert learned == 12
    assert f"{learned} of {sum(built.dataset.lengths)} tokens are learned" in "\n".join(lines)
    assert "conversations by the tokenizer's own chat template" in lines
    assert "the last learned token is '<|im_end|>' in 2 rows" in lines
    plain = build(letters, rows)
    assert any(line.startswith("conversations as ChatML") for line in plain.report.lines())
    assert isinstance(plain.dataset, CausalDataset)
    assert "generation" in (plain.dataset.chat_template or "")


def test_what_the_limit_takes_is_told(tokenizer: Tokenizer) -> None:
    long = [{"role": "user", "content": "hello" * 20}, HELLO[1]]
    rows = [{"messages": HELLO}, {"messages": long}]
    room = len(tokenizer([WHOLE]).input_ids[0]) - 3  # the last line's end, <|im_end|> and a letter
    built = build(tokenizer, rows, max_length=room)
    assert texts(tokenizer, built) == [(WHOLE[:-12], "yo")]
    assert built.dataset.rows == [0]
    lines = built.report.lines()
    assert "1 rows lost all of their learned tokens at the limit and are left out" in lines
    assert any(line.startswith(f"2 texts have more than {room} tokens") for line in lines)
    with pytest.raises(InputError, match="all lost it at the limit of 10 tokens"):
        build(tokenizer, rows, max_length=10)
    with pytest.raises(
        InputError, match=r"row 2, column `messages`: the text has .* more than the limit of 60"
    ):
        build(tokenizer, rows, max_length=60, truncate=False)


def test_rows_that_a_template_leaves_nothing_of(tmp_path: Path) -> None:
    last = "{{ messages[-1].content }}"
    tokenizer = load_tokenizer(write_letters(tmp_path, chat_template=last))
    rows = [{"messages": HELLO}, {"messages": [*HELLO, HELLO[0]]}]
    built = build(tokenizer, rows)
    assert built.dataset.rows == [0]
    assert "1 rows have no token to learn, by the chat template, and are left out" in built.report.lines()
    with pytest.raises(InputError, match="no conversation has a token to learn: none has any"):
        build(tokenizer, rows[1:])


def test_a_reply_that_is_a_rows_first_token_has_nothing_to_learn(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_letters(tmp_path, chat_template="{{ messages[-1].content }}"))
    single = [{"role": "assistant", "content": "y"}]
    built = build(tokenizer, [{"messages": HELLO}, {"messages": single}])
    assert built.dataset.rows == [0]
    assert "1 rows have no token to learn, by the chat template, and are left out" in built.report.lines()


def test_a_letter_on_the_boundary_is_told(tmp_path: Path) -> None:
    """` y` as one token: the prompt's last character and the reply's first."""
    folder = write_letters(
        tmp_path, chat_template="{% for m in messages %}{{ m.role[0] }} {{ m.content }}{% endfor %}"
    )
    vocab = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({**vocab, "Ġy": len(vocab)}))
    (folder / "merges.txt").write_text("#version: 0.2\nĠ y\n")
    tokenizer = load_tokenizer(folder)
    built = build(tokenizer, [{"messages": HELLO}])
    assert texts(tokenizer, built) == [("u helloa you", " you")]
    assert "in 1 rows a learned token begins with the end of the prompt" in built.report.lines()


def test_whole_conversations_in_blocks(tokenizer: Tokenizer) -> None:
    size = len(tokenizer([WHOLE]).input_ids[0])
    built = build(tokenizer, [{"messages": HELLO}] * 5, max_length=2 * size + 3, packing=True)
    assert built.dataset.lengths == [2 * size, 2 * size, size]
    assert built.dataset[0]["document_lengths"] == [size, size]
    assert texts(tokenizer, built)[0] == (WHOLE * 2, "you<|im_end|>" * 2)


def test_dates_in_messages_are_texts(tmp_path: Path) -> None:
    """As Parquet gives them; a template writes them as Python does."""
    template = "{% for m in messages %}{{ m['role'] }} {{ m['at'] }} {{ m['content'] }}\n{% endfor %}"
    folder = write_letters(tmp_path, *templates.TOKENS, chat_template=template)
    when = datetime(2024, 5, 1, 12, 30)
    rows = [{"messages": [{**one, "at": when} for one in HELLO], "tools": [{"name": "x", "since": when}]}]
    tokenizer = load_tokenizer(folder)
    whole = tokenizer.decode(build(tokenizer, rows).dataset[0]["input_ids"])
    assert whole.startswith("user 2024-05-01 12:30:00 hello\nassistant 2024-05-01 12:30:00 you\n")
    rendered = tokenizer.apply_chat_template(rows[0]["messages"], tokenize=False)
    assert str(rendered).startswith("user 2024-05-01 12:30:00 hello\n")


def message(**changes: Any) -> dict[str, Any]:
    return {"messages": [HELLO[0], {**HELLO[1], **changes}]}


BAD = [
    ({"messages": []}, "row 1, column `messages`: expected messages, found an empty list"),
    ({"messages": 3}, "column `messages`: expected a list of messages, found 3"),
    ({"messages": {"role": "user"}}, "expected a list of messages, found {'role': 'user'}"),
    ({"messages": "hello"}, "expected a list as JSON, found 'hello'"),
    ({"messages": None}, "expected a list of messages, found None"),
    ({"messages": ["hello"]}, "message 1: expected an object with `role` and `content`, found 'hello'"),
    ({"messages": HELLO[:1]}, "expected a message of the assistant, found 1 without one"),
    ({"messages": [{"content": "x"}]}, "message 1: expected a role out of system, .*; found None"),
    ({"messages": [{"from": "robot", "value": "x"}]}, "found 'robot'. `from` may be ai, assistant, bot, "),
    ({"conversations": [{"from": "gpt"}]}, "message 1: expected a role out of .*; found 'gpt'"),
    (message(role="gpt"), "message 2: expected a role out of .*; found 'gpt'. Did you mean 'assistant'"),
    (message(role=7), "message 2: expected a role out of .*; found 7"),
    (message(content=None), "message 2: `content` should be a text, found None"),
    (message(content=" "), "message 2: `content` of the assistant is empty"),
    (message(content=3.5), "message 2: `content` should be a text, found 3.5"),
    (message(tags={("a", "b"): 1}), "expected messages as JSON can hold them: keys must be"),
    (message(content="\ud800"), "half of a surrogate pair"),
    ({"messages": HELLO, "system": 3}, "column `system`: expected a text, found 3"),
    ({"messages": [{"role": "system", "content": "be kind"}, *HELLO], "system": "be curt"},
     "column `system`: expected the text of the system's message, 'be kind', or none; found 'be curt'"),
    ({"messages": HELLO, "tools": "x"}, "column `tools`: expected a list as JSON"),
    ({"messages": HELLO, "tools": 3}, "column `tools`: expected a list of tools, found 3"),
    ({"messages": HELLO, "prompt": "a", "response": "b"}, "more than one form .*by messages_column, or `res"),
    ({"messages": HELLO, "text": "a"}, "`messages` by messages_column, or `text` by text_column"),
    ({"prompt": "a", "response": None}, "row 1, column `response`: expected a text, found none"),
    ({"prompt": "a", "response": " "}, "column `response`: expected a text, found an empty one"),
    ({"prompt": ["a"], "response": "b"}, "column `prompt`: expected a text, found"),
    ({"prompt": "a", "response": "b", "system": 3}, "column `system`: expected a text, found 3"),
    ({"prompt": "a", "answer": "b"}, "has no columns of texts or conversations"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "says"), BAD)
def test_bad_rows(tokenizer: Tokenizer, row: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        build(tokenizer, [row])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"messages_column": "messages", "text_column": "x"}, "have no meaning beside it"),
        ({"messages_column": "mesages"}, "no column 'mesages'.*Did you mean `messages`"),
        ({"text_column": ("a", "b")}, "text_column names prompts only beside a label_column"),
        ({"label_column": "x"}, "has no columns of prompts"),
        ({"label_column": "x", "text_column": ("a", "b", "c")}, "expected one column, or an instruction's"),
        ({"label_column": "nope", "text_column": "other"}, "no column 'nope'"),
        ({"label_column": "other", "text_column": "other", "system_column": "nope"}, "no column 'nope'"),
        ({"system_column": "other"}, "system_column has no meaning for rows of messages"),
    ],
)
def test_columns_that_do_not_fit(tokenizer: Tokenizer, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        build(tokenizer, [{"messages": HELLO, "other": "x"}], **options)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ raise_exception('no systems here') }}",
         "row 2, column `messages`: the chat template cannot be filled: TemplateError 'no systems here'"),
        ("{{ messages[0].content.nothing.at.all }}", "cannot be filled: UndefinedError"),
        ("{% for %}", "cannot be filled: TemplateSyntaxError"),
    ],
)  # fmt: skip
def test_templates_that_fail(tmp_path: Path, template: str, says: str) -> None:
    guard = (
        "{% if messages[0].role == 'user' %}{{ messages[-1].content }}{% else %}" + template + "{% endif %}"
    )
    tokenizer = load_tokenizer(write_letters(tmp_path, chat_template=guard))
    rows = [{"messages": HELLO}, {"messages": [{"role": "system", "content": "x"}, *HELLO]}]
    with pytest.raises(InputError, match=says):
        build(tokenizer, rows)


def test_several_templates(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_letters(tmp_path))
    tokenizer.chat_template = {
        "tool_use": "T{{ messages[-1].content }}",
        "default": "D{{ messages[-1].content }}",
    }
    rows = [
        {"messages": HELLO},
        {"messages": HELLO, "tools": [{"name": "x"}]},
        {"messages": HELLO, "tools": []},
    ]
    assert [whole for whole, _ in texts(tokenizer, build(tokenizer, rows))] == ["Dyou", "Tyou", "Dyou"]
    tokenizer.chat_template = {"rag": "x"}
    with pytest.raises(InputError, match="no chat template is the default one; there are rag"):
        build(tokenizer, rows)
