"""Which characters of a rendered conversation the assistant wrote: what a model is to learn.

Three ways, the first that gives an answer:

1. `{% generation %}` blocks, where the template has them: explicit marks by its author.
2. Prefixes: the conversation up to a turn with the generation prompt, and up to the turn's end, each rendered
   alone, begin the whole text.
3. The text's difference from the same conversation with a stand-in for the turn's content, for templates
   that render a turn in another way when others follow (Qwen3 leaves out earlier reasoning).

By 2 and 3 a turn ends with its end-of-turn token; white space behind that token belongs to the template.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from biject.errors import InputError
from biject.tokenization import chat
from biject.tokenization.tokenizer import Tokenizer

Span = tuple[int, int]
"""First character, and the one behind the last."""

Way = Literal["generation blocks", "prefixes", "content"]

Messages = Sequence[Mapping[str, Any]]

MOST_MESSAGES = 2000
"""Of a conversation by the ways 2 and 3, whose time grows with the square of it: 19 s for so many, by 2."""
_KEPT = ("role", "type")
"""What a stand-in leaves as it is: templates decide by these."""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A conversation's text; what of it the assistant wrote, in order; how that was found."""

    text: str
    spans: tuple[Span, ...]
    way: Way


class Renderer:
    """Conversations to texts with spans, by one template."""

    def __init__(self, template: str, tokenizer: Tokenizer) -> None:
        self.template = template
        self.values = tokenizer.special_tokens
        added = [token.content for token in tokenizer.backend.get_added_tokens_decoder().values()]
        self.ends = tuple(token for token in (*added, *tokenizer.all_special_tokens) if token.strip())

    def __call__(self, messages: Messages, tools: Sequence[Any] | None = None) -> Rendered:
        """Render a conversation.

        Raises:
            InputError: The template refuses it, or the bounds of an assistant's turn cannot be found.
        """
        if chat.has_generation(self.template):
            return self._by_blocks(messages, tools)
        if len(messages) > MOST_MESSAGES:
            raise InputError(
                f"expected up to {MOST_MESSAGES} messages in a conversation, found {len(messages)}: to find "
                "what the assistant wrote, all before each of its turns is rendered again. Split it, or "
                "put {% generation %} blocks into the chat template, with which there is no limit."
            )
        text = self._render(messages, tools)
        spans, way = [], "prefixes"
        for turn, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            span = self._by_prefixes(text, messages, turn, tools)
            if span is None:
                span, way = self._by_content(text, messages, turn, tools), "content"
            if span is not None and span[0] < span[1]:
                spans.append(span)
        if any(one[1] > two[0] for one, two in pairwise(spans)):
            raise InputError("the chat template mixes the assistant's turns: it needs generation blocks.")
        return Rendered(text=text, spans=tuple(spans), way="content" if way == "content" else "prefixes")

    def _render(self, messages: Messages, tools: Sequence[Any] | None, **options: bool) -> str:
        settings = {"add_generation_prompt": False, **options}
        return chat.render(self.template, messages, tools=tools, values=self.values, **settings)

    def _attempt(self, messages: Messages, tools: Sequence[Any] | None, **options: bool) -> str | None:
        """The text of a part of a conversation; None where the template refuses it."""
        try:
            return self._render(messages, tools, **options)
        except InputError:
            return None

    def _by_blocks(self, messages: Messages, tools: Sequence[Any] | None) -> Rendered:
        written = json.dumps([dict(message) for message in messages], ensure_ascii=False)
        if chat.OPEN in written or chat.CLOSE in written:
            raise InputError(
                f"the texts contain {chat.OPEN!r} or {chat.CLOSE!r}, which mark generation blocks."
            )
        marked = self._render(messages, tools, marked=True)
        parts: list[str] = []
        spans: list[Span] = []
        depth = place = first = 0
        for piece in marked.replace(chat.CLOSE, chat.OPEN + chat.CLOSE).split(chat.OPEN):
            closes = piece.startswith(chat.CLOSE)
            if parts or closes:
                depth += -1 if closes else 1
                if depth == 1 and not closes:
                    first = place
                if depth == 0 and first < place:
                    spans.append((first, place))
            text = piece.removeprefix(chat.CLOSE)
            parts.append(text)
            place += len(text)
        text = "".join(parts)
        if depth or text != self._render(messages, tools):
            raise InputError("the chat template changes the text of its generation blocks afterwards.")
        return Rendered(text=text, spans=tuple(spans), way="generation blocks")

    def _prompt(self, text: str, messages: Messages, turn: int, tools: Sequence[Any] | None) -> int | None:
        """Where a turn starts by the generation prompt; None where the text continues otherwise."""
        prompt = self._attempt(messages[:turn], tools, add_generation_prompt=True)
        if prompt is None or not text.startswith(prompt):
            return None
        return None if prompt == self._attempt(messages[:turn], tools) else len(prompt)

    def _by_prefixes(
        self, text: str, messages: Messages, turn: int, tools: Sequence[Any] | None
    ) -> Span | None:
        start = self._prompt(text, messages, turn, tools)
        after = self._attempt(messages[: turn + 1], tools)
        if start is None or after is None or not text.startswith(after):
            return None
        return start, self._ended(text, start, len(after))

    def _by_content(
        self, text: str, messages: Messages, turn: int, tools: Sequence[Any] | None
    ) -> Span | None:
        """None where the template leaves the turn out."""
        found = self._difference(text, messages, turn, tools)
        if found is None:
            return None
        start, end = found
        whole = self._attempt(messages[: turn + 1], tools)
        last = None if whole is None else self._difference(whole, messages[: turn + 1], turn, tools)
        if whole is None or last is None:
            raise _unclear(turn)
        end += _common(text[end:], whole[last[1] :])
        prompt = self._prompt(text, messages, turn, tools)
        start = prompt if prompt is not None and prompt <= start else start
        return start, self._ended(text, start, end)

    def _difference(
        self, text: str, messages: Messages, turn: int, tools: Sequence[Any] | None
    ) -> Span | None:
        """Where `text` differs from what it is with another content of one turn; None for nowhere."""
        letter = next(chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in text)
        changed = [*messages[:turn], _stand_in(messages[turn], letter), *messages[turn + 1 :]]
        other = self._attempt(changed, tools)
        if other is None:
            raise _unclear(turn)
        if other == text:
            return None
        start = _common(text, other)
        tail = _common(text[start:][::-1], other[start:][::-1])
        return start, len(text) - tail

    def _ended(self, text: str, start: int, end: int) -> int:
        """The end of a turn without the white space behind its end-of-turn token, if it has one."""
        bare = text[start:end].rstrip()
        return start + len(bare) if bare.endswith(self.ends) else end


def _common(one: str, two: str) -> int:
    """How many first characters two texts share."""
    shorter = min(len(one), len(two))
    return next((i for i in range(shorter) if one[i] != two[i]), shorter)


def _unclear(turn: int) -> InputError:
    return InputError(
        f"the bounds of the assistant's message {turn + 1} cannot be found in the rendered chat template: "
        "it needs {% generation %} blocks around what is to be learned."
    )


def _stand_in(value: Any, letter: str) -> Any:
    """`value` with every text in it replaced."""
    if isinstance(value, Mapping):
        return {key: v if key in _KEPT else _stand_in(v, letter) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_stand_in(item, letter) for item in value]
    return letter if isinstance(value, str) else value


def learned_tokens(offsets: Sequence[Span], spans: Sequence[Span]) -> tuple[list[bool], int]:
    """Which tokens hold any character of any span, and all tokens between these; how many begin before one.

    A token on a boundary is learned: without it the first letters of a reply, or the last, would never be.

    Args:
        offsets: Of each token in the text. An empty one (white space that a tokenizer trims) stands for what
            is between the token before it and itself.
        spans: In order.
    """
    learned = [False] * len(offsets)
    shared = place = covered = 0
    for index, (first, last) in enumerate(offsets):
        begin = first if first < last else min(first, covered)
        covered = max(covered, last)
        while place < len(spans) and spans[place][1] <= begin:
            place += 1
        if place < len(spans) and last > spans[place][0]:
            learned[index] = True
            shared += begin < spans[place][0]
    return learned, shared
