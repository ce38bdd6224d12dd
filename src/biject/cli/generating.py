"""The work of `biject generate`: prompts or a conversation in, text out as it comes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from biject.checkpoint.hub import resolve_folder
from biject.cli.console import print_json
from biject.errors import InputError
from biject.events import notice
from biject.generate.cache import Cache
from biject.generate.defaults import Defaults, read_defaults
from biject.generate.prompt import room
from biject.generate.scores import generator_of
from biject.generate.settings import LengthError, settings_of
from biject.generate.stream import TextStream
from biject.pretrained import load
from biject.tokenization.chat import render
from biject.tokenization.chatml import END, chat_template
from biject.tokenization.fit import check_fits
from biject.tokenization.tokenizer import load_tokenizer

_NEW_TOKENS = 100


def turns(prompts: Sequence[str], *, chat: bool) -> Iterable[str]:
    """What to continue or to answer: the arguments, else standard input.

    Raises:
        InputError: there is nothing, or it is no text.
    """
    if prompts:
        return prompts
    if sys.stdin is None or (sys.stdin.isatty() and not chat):
        raise InputError("there is no prompt: give it as an argument or on standard input.")
    if chat:
        return _lines()
    return [_decoded(sys.stdin.buffer.read()).removesuffix("\n")]


def _lines() -> Iterator[str]:
    """Line by line, as they are typed; blank ones are left out."""
    if sys.stdin.isatty():
        print("Write a line; Ctrl-C ends an answer, Ctrl-D the conversation.", file=sys.stderr)
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        data = sys.stdin.buffer.readline()
        if not data:
            return
        if line := _decoded(data).strip():
            yield line


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input must be UTF-8 text; byte {error.start} is not.") from error


class Writer:
    """A model with its tokenizer that writes what it generates.

    Args:
        folder: where both are.
        dtype: of the parameters.
        seed: for draws; None for another one each time.
        quiet: print nothing while generating.
        arguments: of `Model.generate`.
    """

    def __init__(
        self, folder: str, *, dtype: str, seed: int | None, quiet: bool, arguments: Mapping[str, Any]
    ) -> None:
        place = resolve_folder(folder)
        self.model = load(place, head="causal", dtype=dtype)
        self.tokenizer = load_tokenizer(place, self.model.hf_config)
        check_fits(self.tokenizer, {"vocab_size": self.model.config.vocab_size})
        self.arguments, self.quiet = dict(arguments), quiet
        self.seed = torch.Generator().seed() if seed is None else seed
        self.generator = generator_of(self.seed)
        self.results: list[dict[str, Any]] = []

    def continue_all(self, prompts: Iterable[str]) -> None:
        """Each prompt with its continuation, a line's end after each."""
        for prompt in prompts:
            ids = self.tokenizer([prompt]).input_ids[0]
            self._print(prompt)
            self.results.append({"prompt": prompt, **self._continue(ids, self.arguments)})
            self._print("\n")

    def converse(self, lines: Iterable[str]) -> None:
        """Answer what the user says, turn by turn."""
        template = chat_template(self.tokenizer)
        notice("chat-template", template.line)
        arguments = {**self.arguments, "eos_token_id": self._ends(template.text)}
        messages: list[dict[str, str]] = []
        cache = Cache()
        for line in lines:
            messages.append({"role": "user", "content": line})
            text = render(
                template.text,
                messages,
                tools=None,
                add_generation_prompt=True,
                values=self.tokenizer.special_tokens,
            )
            ids = self.tokenizer([text], add_special_tokens=False).input_ids[0]
            try:
                found = self._continue(ids, arguments, cache=cache)
            except LengthError as error:
                if not self.results:
                    raise
                count = len(self.results)
                told = f"{count} answer{'s' * (count != 1)}"
                raise InputError(f"the conversation is full with {told}, begin a new one: {error}") from error
            self._print("\n")
            messages.append({"role": "assistant", "content": found["text"]})
            self.results.append({"prompt": line, **found})

    def print_json(self, folder: str) -> None:
        """All results as one document."""
        print_json({"model": folder, "seed": self.seed, "results": self.results})

    def _continue(
        self, ids: list[int], arguments: Mapping[str, Any], *, cache: Cache | None = None
    ) -> dict[str, Any]:
        """Generate and write. With `cache`, in a conversation, Ctrl-C ends this text alone, and what was
        written counts.
        """
        pieces: list[str] = []

        def write(piece: str) -> None:
            pieces.append(piece)
            self._print(piece)

        if arguments["max_new_tokens"] is None:
            arguments = {**arguments, "max_new_tokens": self._new_tokens(len(ids), arguments)}
        stream = TextStream(self.tokenizer, write)
        try:
            self.model.generate(
                torch.tensor([ids], dtype=torch.long),
                torch.ones(1, len(ids), dtype=torch.long),
                tokenizer=self.tokenizer,
                generator=self.generator,
                streamer=stream,
                past_key_values=cache,
                **arguments,
            )
        except KeyboardInterrupt:
            if cache is None:
                raise
        known = {} if cache is None else {"num_cached_tokens": cache.num_reused}
        return {"text": "".join(pieces), "num_prompt_tokens": len(ids), **known, "tokens": stream.ids}

    def _new_tokens(self, prompt: int, arguments: Mapping[str, Any]) -> int:
        """How many to add where no flag says it: as the folder does, else 100; as far as the table goes.

        Raises:
            InputError: as of generate.
        """
        said, most = self._defaults(), _NEW_TOKENS
        if any(said.values.get(name) is not None for name in ("max_new_tokens", "max_length")):
            most = settings_of(arguments, said, prompt=prompt, table=None).max_length - prompt
        left = room(self.model.config, prompt)
        return most if left is None else max(1, min(most, left))

    def _defaults(self) -> Defaults:
        return read_defaults(self.model.source.folder, self.model.source.config)

    def _ends(self, template: str) -> list[int] | None:
        """Tokens that end a turn: those of the folder, and ChatML's where the template writes it."""
        end = self.tokenizer.backend.token_to_id(END)
        if end is None or END not in template:
            return None
        ends = self._defaults().values.get("eos_token_id")
        ids = ends if isinstance(ends, list) else [] if ends is None else [ends]
        return [*ids, *([] if end in ids else [end])]

    def _print(self, text: str) -> None:
        if self.quiet:
            return
        if sys.stdout.isatty():  # a model may write what a terminal obeys
            text = "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)
        print(text, end="", flush=True)
