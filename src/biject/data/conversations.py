"""Rows as conversations: `messages`, or a prompt and a response with or without a system's text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from biject.data.table import Rows
from biject.data.texts import TextColumn, check_text, check_unicode
from biject.errors import InputError, shown
from biject.tokenization.chat import plain

Kind = Literal["text", "messages", "prompts"]
Messages = tuple[Mapping[str, Any], ...]

ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
_ALSO = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "ai": "assistant"}

_SHAREGPT = {
    **_ALSO, "system": "system", "user": "user", "assistant": "assistant", "tool": "tool",
    "observation": "tool", "function_response": "tool", "chatgpt": "assistant",
}  # fmt: skip
"""Roles by what `from` says in ShareGPT's form."""
_TEXT, _MESSAGES, _CONVERSATIONS = ("text", "sentence"), "messages", "conversations"
_PROMPT, _RESPONSE = ("prompt", "instruction"), ("response", "output", "completion")
_INPUT, _SYSTEM, _TOOLS = "input", "system", "tools"


@dataclass(frozen=True, kw_only=True)
class Form:
    """Which columns hold what; `prompt` has one column, or two whose texts are joined by a line's end."""

    kind: Kind
    text: str = ""
    messages: str = ""
    prompt: tuple[str, ...] = ()
    response: str = ""
    system: str | None = None

    @property
    def column(self) -> str:
        """The column that an error about a whole row names."""
        return self.messages or self.response or self.text


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Messages with their roles, and the tools that were at hand."""

    messages: tuple[Mapping[str, Any], ...]
    tools: Sequence[Any] | None = None


def find_form(
    rows: Rows,
    *,
    text_column: TextColumn | None = None,
    label_column: str | None = None,
    messages_column: str | None = None,
    system_column: str | None = None,
) -> Form:
    """What the rows are: texts, messages, or prompts with responses.

    Args:
        rows: The table.
        text_column: Column of texts; beside a `label_column` the prompts, two columns for an instruction
            and its input.
        label_column: Column of responses.
        messages_column: Column of lists of messages.
        system_column: Column of system prompts, for prompts.

    Raises:
        InputError: There is no form that the columns fit, or more than one; or names contradict each other.
    """
    if messages_column is not None:
        if text_column is not None or label_column is not None or system_column is not None:
            raise InputError(
                "messages_column has whole conversations: text_column, label_column and system_column have "
                "no meaning beside it."
            )
        return Form(kind="messages", messages=messages_column)
    if label_column is not None:
        prompt = _columns(text_column) or _found(rows, _PROMPT)
        if not prompt:
            raise _nothing(rows, "prompts")
        return _prompts(rows, prompt, label_column, system_column)
    if text_column is not None:
        columns = _columns(text_column)
        if len(columns) != 1 or system_column is not None:
            raise InputError("text_column names prompts only beside a label_column, which names responses.")
        return Form(kind="text", text=columns[0])
    return _usual(rows, system_column)


def _usual(rows: Rows, system_column: str | None) -> Form:
    """The form by the usual names of columns."""
    prompt, response, text = _found(rows, _PROMPT), _found(rows, _RESPONSE), _found(rows, _TEXT)
    forms: list[Form] = []
    lists = [name for name in (_MESSAGES, _CONVERSATIONS) if name in rows.columns]
    forms += [Form(kind="messages", messages=name) for name in lists]
    if prompt and response:
        forms.append(_prompts(rows, prompt, response[0], system_column))
    if text:
        forms.append(Form(kind="text", text=text[0]))
    if not forms:
        raise _nothing(rows, "texts or conversations")
    if len(forms) > 1:
        ways = {
            "messages": f"`{forms[0].messages}` by messages_column",
            "prompts": f"`{response[0] if response else ''}` by label_column",
            "text": f"`{text[0] if text else ''}` by text_column",
        }
        raise InputError(
            f"{rows.source} has columns of more than one form ({rows.named()}). Name the one to train on: "
            f"{', or '.join(ways[form.kind] for form in forms)}."
        )
    if system_column is not None and forms[0].kind != "prompts":
        raise InputError(f"system_column has no meaning for rows of {forms[0].kind}.")
    return forms[0]


def _prompts(rows: Rows, prompt: tuple[str, ...], response: str, system: str | None) -> Form:
    if prompt == ("instruction",) and _INPUT in rows.columns:
        prompt = ("instruction", _INPUT)
    if len(prompt) > 2:
        raise InputError(
            f"text_column: expected one column, or an instruction's and its input's; found {len(prompt)}."
        )
    if system is None and _SYSTEM in rows.columns:
        system = _SYSTEM
    return Form(kind="prompts", prompt=prompt, response=response, system=system)


def _columns(column: TextColumn | None) -> tuple[str, ...]:
    return () if column is None else (column,) if isinstance(column, str) else tuple(column)


def _found(rows: Rows, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name in rows.columns)[:1]


def _nothing(rows: Rows, what: str) -> InputError:
    return InputError(
        f"{rows.source} has no columns of {what}: expected `text`; or `messages` (or `conversations`); or "
        f"`prompt` and `response` (or `instruction` and `output`); it has {rows.named()}. Name them: texts "
        "or prompts by text_column, responses by label_column, messages by messages_column."
    )


def read_conversations(rows: Rows, form: Form) -> list[Conversation]:
    """The conversations of rows that hold messages, or prompts and responses.

    Raises:
        InputError: What is wrong in which row and column.
    """
    if form.kind == "messages":

        def read(row: int, value: object) -> Conversation:
            messages = _with_system(rows, row, _messages(rows, row, form.messages, value))
            return Conversation(messages=messages, tools=read_tools(rows, row))

        return rows.each(rows.column(form.messages), read)
    columns = {name: rows.column(name) for name in (form.prompt[0], form.response)}
    optional = (*form.prompt[1:], *([form.system] if form.system else []))
    for name in optional:
        if name not in rows.columns:
            rows.column(name)  # raises
    return rows.each(range(len(rows)), lambda row, _: _exchange(rows, row, form, columns))


def _exchange(rows: Rows, row: int, form: Form, columns: Mapping[str, Sequence[Any]]) -> Conversation:
    for name, values in columns.items():
        if values[row] is None:
            raise rows.fault(row, name, "expected a text, found none.")
        check_text(rows, row, name, values[row])
    prompt = [columns[form.prompt[0]][row], *(_optional(rows, row, name) for name in form.prompt[1:])]
    messages = [{"role": "user", "content": "\n".join(text for text in prompt if text)}]
    system = _optional(rows, row, form.system) if form.system else ""
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return Conversation(messages=(*messages, {"role": "assistant", "content": columns[form.response][row]}))


def _optional(rows: Rows, row: int, column: str) -> str:
    """A text that may be empty or absent."""
    value = rows[row].get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise rows.fault(row, column, f"expected a text, found {shown(value)}.")
    check_unicode(rows, row, column, value)
    return value if value.strip() else ""


def read_messages(rows: Rows, row: int, column: str, value: Any) -> Messages:
    """A list of messages, in a row of JSON or of CSV.

    Raises:
        InputError: It is none, or a message is not what it should be.
    """
    value = _parsed(rows, row, column, value)
    if not isinstance(value, list):
        raise rows.fault(row, column, f"expected a list of messages, found {shown(value)}.")
    if not value:
        raise rows.fault(row, column, "expected messages, found an empty list. Leave the row out.")
    value = [_from_sharegpt(message) for message in value]
    for number, message in enumerate(value, 1):
        fault = _message_fault(message)
        if fault:
            raise rows.fault(row, column, f"message {number}: {fault}")
    try:
        value = plain(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise rows.fault(row, column, f"expected messages as JSON can hold them: {error}.") from error
    check_unicode(rows, row, column, json.dumps(value, ensure_ascii=False))
    return tuple(value)


def _messages(rows: Rows, row: int, column: str, value: Any) -> Messages:
    """A conversation in which the assistant writes something."""
    found = read_messages(rows, row, column, value)
    if not any(message["role"] == "assistant" for message in found):
        raise rows.fault(
            row, column, f"expected a message of the assistant, found {len(found)} without one. There is "
            "nothing to learn: leave the row out.",
        )  # fmt: skip
    return found


def _with_system(rows: Rows, row: int, messages: Messages) -> Messages:
    """With the text of a column `system` as first message, unless there is that one."""
    system = _optional(rows, row, _SYSTEM)
    if not system:
        return messages
    first = messages[0]
    if first["role"] not in ("system", "developer"):
        return ({"role": "system", "content": system}, *messages)
    content = first.get("content")
    if not isinstance(content, str) or content.strip() != system.strip():
        raise rows.fault(
            row,
            _SYSTEM,
            f"expected the text of the {first['role']}'s message, {shown(content)}, or none; found "
            f"{shown(system)}.",
        )
    return messages


def _from_sharegpt(message: Any) -> Any:
    """A message of the form `from` and `value` as one of `role` and `content`; others as they are."""
    if not isinstance(message, Mapping) or "role" in message or "from" not in message:
        return message
    role = _SHAREGPT.get(str(message["from"]).lower())
    if role is None or "value" not in message:
        return message
    rest = {key: value for key, value in message.items() if key not in ("from", "value")}
    return {"role": role, "content": message["value"], **rest}


def _message_fault(message: object) -> str:
    """What is wrong with one message; empty where nothing is."""
    if not isinstance(message, Mapping):
        return f"expected an object with `role` and `content`, found {shown(message)}."
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        role = message.get("from", role)
        known = ", ".join(sorted(_SHAREGPT))
        hint = f" `from` may be {known}." if "from" in message else ""
        near = _ALSO.get(str(role).lower())
        hint = f" Did you mean {near!r}?" if near else hint
        return f"expected a role out of {', '.join(ROLES)}; found {shown(role)}.{hint}"
    if role == "assistant" and message.get("tool_calls"):
        return ""
    if not isinstance(content, str | list):
        return f"`content` should be a text, found {shown(content)}."
    if role == "assistant" and not (content.strip() if isinstance(content, str) else content):
        return "`content` of the assistant is empty. Fill it in, or leave the row out."
    return ""


def read_tools(rows: Rows, row: int) -> Sequence[Any] | None:
    """The tools of a row; None where it has none."""
    value = rows[row].get(_TOOLS)
    if value is None or value == "":
        return None
    value = _parsed(rows, row, _TOOLS, value)
    if not isinstance(value, list):
        raise rows.fault(row, _TOOLS, f"expected a list of tools, found {shown(value)}.")
    return value or None


def _parsed(rows: Rows, row: int, column: str, value: Any) -> Any:
    """A list that a CSV file holds as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise rows.fault(row, column, f"expected a list as JSON, found {shown(value)}.") from error
