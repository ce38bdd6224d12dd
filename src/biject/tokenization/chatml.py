"""ChatML, the form of a conversation where a tokenizer brings no chat template of its own.

Source: OpenAI, openai-python v0.27, chatml.md: ``<|im_start|>role``, a line's end, the text, ``<|im_end|>``.
"""

from __future__ import annotations

from dataclasses import dataclass

from biject.errors import InputError
from biject.tokenization import chat
from biject.tokenization.tokenizer import Tokenizer

START, END = "<|im_start|>", "<|im_end|>"

_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{ message['content'] + END }}{%- endgeneration -%}"
    "{%- else -%}"
    "{{ message['content'] + END }}"
    "{%- endif -%}"
    "{{ '\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """How conversations become texts.

    Attributes:
        text: The template.
        own: Whether it is the tokenizer's own.
        line: A line for the user about it.
    """

    text: str
    own: bool
    line: str


def chat_template(tokenizer: Tokenizer, *, tools: bool = False) -> ChatTemplate:
    """The tokenizer's own template, else ChatML made for it.

    Nothing is added to the vocabulary, as new tokens would be random rows of the embedding. Where it lacks
    ChatML's markers, `<|im_start|>` is plain text of several tokens, and turns end with the end-of-text token
    instead of `<|im_end|>`, so that generation stops by itself. A tokenizer that puts a beginning-of-text
    token before every text has it before every conversation, too.

    Raises:
        InputError: There are several templates and none is the default; or ChatML's turns could not end, as
            the vocabulary has neither `<|im_end|>` nor an end-of-text token.
    """
    if tokenizer.chat_template is not None:
        text = chat.pick(tokenizer.chat_template, tools=tools)
        return ChatTemplate(text=text, own=True, line="conversations by the tokenizer's own chat template")
    end, how = f"'{END}'", f"turns end with {END}"
    if tokenizer.backend.token_to_id(END) is None:
        if tokenizer.eos_token is None or tokenizer.eos_token_id is None:
            raise InputError(
                "the tokenizer has no chat template, and ChatML needs a token that ends a turn: neither "
                f"{END} nor an end-of-text token is there. Name one as `eos_token` in tokenizer_config.json, "
                "or put a chat_template.jinja into the model's folder."
            )
        end, how = "eos_token", f"turns end with {tokenizer.eos_token}"
    if tokenizer.backend.token_to_id(START) is None:
        count = len(tokenizer([START], add_special_tokens=False).input_ids[0])
        how += f"; {START} is no token of this vocabulary but plain text of {count} tokens"
    ids = tokenizer([""]).input_ids[0]
    first = "{{- bos_token -}}" if ids and ids[0] == tokenizer.bos_token_id else ""
    line = f"conversations as ChatML, as the tokenizer has no chat template: {how}"
    return ChatTemplate(text=first + _TEMPLATE.replace("END", end), own=False, line=line)
