"""Chat templates: a conversation as the text that a model was trained on.

Source: `render_jinja_template` in utils/chat_template_utils.py, transformers 5.23. Templates come from
strangers: they run in jinja2's immutable sandbox and see plain data only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn

from biject.checkpoint.strict_json import shown
from biject.errors import InputError, MissingExtraError

Template = str | dict[str, str]
"""A template, or several by name."""

OPEN, CLOSE = "\U000f0b1e", "\U000f0b1f"
"""Private characters around `{% generation %}` blocks where a text is rendered with `marked`."""

_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


def has_generation(template: str) -> bool:
    """Whether a template marks itself, by `{% generation %}` blocks, what the assistant writes."""
    return _GENERATION.search(template) is not None


def pick(template: Template | None, *, tools: bool) -> str:
    """The template to use.

    Raises:
        InputError: There is none, or several without a default.
    """
    if template is None:
        raise InputError("this tokenizer has no chat template; write the prompt as plain text.")
    if isinstance(template, str):
        return template
    name = "tool_use" if tools and "tool_use" in template else "default"
    if name not in template:
        raise InputError(f"no chat template is the default one; there are {', '.join(sorted(template))}.")
    return template[name]


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None,
    add_generation_prompt: bool,
    values: Mapping[str, Any],
    marked: bool = False,
) -> str:
    """Fill a template; with `marked`, `OPEN` and `CLOSE` are put around each `{% generation %}` block's text.

    Raises:
        InputError: The template is wrong, or refuses the conversation.
        MissingExtraError: jinja2 is not installed.
    """
    _check(messages, tools)
    try:
        text = _compiled(template, marked).render(
            messages=[_message(message) for message in messages],
            tools=None if tools is None else plain(list(tools)),
            add_generation_prompt=add_generation_prompt,
            **plain({"documents": None, **values}),
        )
    except MissingExtraError:
        raise
    except Exception as error:  # whatever a stranger's template raises
        raise InputError(
            f"the chat template cannot be filled: {type(error).__name__} {shown(str(error))}"
        ) from error
    return str(text)


def render_unfinished(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None,
    values: Mapping[str, Any],
) -> str:
    """Fill a template up to the end of the last message's text, so that generation goes on with it.

    Source: transformers 5.23, utils/chat_template_utils.py (continue_final_message).

    Raises:
        InputError: As `render`; the last message has no text, or the template leaves it out.
    """
    _check(messages, tools)
    last = messages[-1]
    content = last.get("content")
    if not isinstance(content, str):
        raise InputError("`continue_final_message` needs a last message whose `content` is a text.")
    marked = [*messages[:-1], {**last, "content": content + _END}]
    text = render(template, marked, tools=tools, add_generation_prompt=False, values=values)
    end = _END.strip()
    if end not in text or content.strip() not in text:
        raise InputError(
            "`continue_final_message`: the chat template does not give the last message's text as it is."
        )
    at = text.rindex(end)
    return text[:at] if text[at : at + len(_END)] == _END else text[:at].rstrip()


def _check(messages: Sequence[Any], tools: Sequence[Any] | None) -> None:
    if not messages:
        raise InputError("a chat template needs at least one message, found none.")
    if isinstance(messages, Mapping) or not all(isinstance(message, Mapping) for message in messages):
        raise InputError(
            "a conversation is a list of messages, each a dict with `role` and `content`, found "
            f"{shown(messages)}; give several conversations one at a time."
        )
    strange = next((tool for tool in tools or () if not isinstance(tool, Mapping)), None)
    if strange is not None:
        raise InputError(
            f"a tool is the JSON schema of a function, as a dict, found {shown(strange)}; "
            "`transformers.utils.get_json_schema` makes it of a Python function."
        )


_END = "THE-MESSAGE-GOES-ON-HERE "
"""Put behind the last message; a template that cuts space at the end of a text takes its own."""


def compile_template(template: str) -> None:
    """Parse a template without running it.

    Raises:
        MissingExtraError: jinja2 is not installed.
        Exception: Whatever jinja2 raises of a template that is none.
    """
    _compiled(template, False)


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data, no None; what a message was thought up with has the three names that templates read."""
    given: dict[str, Any] = plain({k: v for k, v in message.items() if v is not None})
    names = ("reasoning_content", "thinking", "reasoning")
    reasoning = next((given[name] for name in names if given.get(name) is not None), None)
    return given if reasoning is None else {"thinking": reasoning, **given, "reasoning_content": reasoning}


def plain(value: Any) -> Any:
    """The same of JSON's types alone; dates and the like as the text that a template would write.

    Raises:
        TypeError: A mapping's key is no text or number.
        ValueError: Something contains itself.
        RecursionError: It is nested too deeply.
    """
    return json.loads(json.dumps(value, ensure_ascii=False, default=_as_json))


def _as_json(value: Any) -> Any:
    """A mapping as a dict, an array's values, anything else as text."""
    if isinstance(value, Mapping):
        return dict(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)


@lru_cache(maxsize=16)
def _compiled(template: str, marked: bool) -> Any:
    return _environment(marked).from_string(template)


def _environment(marked: bool) -> Any:
    try:
        from jinja2 import nodes
        from jinja2.exceptions import SecurityError, TemplateError
        from jinja2.ext import Extension, loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
        from jinja2.utils import Namespace
    except ImportError as error:
        raise MissingExtraError("chat templates need jinja2: pip install jinja2") from error

    def _text(text: str, line: int) -> Any:
        return nodes.Output([nodes.TemplateData(text)], lineno=line)

    class Generation(Extension):
        """`{% generation %}` marks what the assistant writes, for training; here it is its content."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            if marked:
                body = [_text(OPEN, line), *body, _text(CLOSE, line)]
            return nodes.Scope(body, lineno=line)

    class Names(Namespace):
        """`namespace(…)` without names that start with an underscore."""

        def __init__(*args: Any, **kwargs: Any) -> None:
            given = dict(*args[1:], **kwargs)
            for name in given:
                check(name)
            Namespace.__init__(args[0], given)

        def __setitem__(self, name: str, value: Any) -> None:
            check(name)
            Namespace.__setitem__(self, name, value)

    def check(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace cannot have {name!r}")

    def tojson(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None,
               sort_keys: bool = False) -> str:  # fmt: skip
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = _now
    # The types themselves would let a template reach attributes of Python's own.
    environment.globals["dict"] = lambda *args, **kwargs: dict(*args, **kwargs)
    environment.globals["namespace"] = Names
    return environment


def _now(form: str) -> str:
    from datetime import datetime

    return datetime.now().strftime(form)
