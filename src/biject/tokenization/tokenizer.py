"""`load_tokenizer`: texts to ids as `transformers` makes them, by the `tokenizers` library alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from tokenizers import AddedToken

from biject.checkpoint.adapter import checkpoint_folder
from biject.checkpoint.strict_json import MAX_CONFIG_BYTES, parse_object, read_small_file, shown
from biject.errors import CheckpointError, InputError
from biject.tokenization.arguments import (
    Texts,
    as_ids,
    by_name,
    cleaned,
    is_one,
    max_length,
    rows,
    strategy,
    template,
)
from biject.tokenization.files import template_name, tokenizer_folder
from biject.tokenization.finish import Parts
from biject.tokenization.library import library_errors
from biject.tokenization.load import load_parts
from biject.tokenization.settings import ROLES, Token
from biject.tokenization.special import SpecialTokens

if TYPE_CHECKING:
    import torch

    from biject.tokenization.chat import Template
    from biject.tokenization.encoded import Encoded, Tensors

# What True means comes first, what False means last.
_TRUNCATION = ("longest_first", "only_first", "only_second", "do_not_truncate")
_PADDING = ("longest", "max_length", "do_not_pad")
_NOT_OF_A_CHAT = {"return_assistant_tokens_mask", "sanitize_control_tokens", "tokenizer_kwargs"}


def load_tokenizer(folder: str | Path, config: Mapping[str, Any] | None = None) -> Tokenizer:
    """Build the tokenizer of a checkpoint's folder, or of an adapter's: there, or with its base.

    From `tokenizer.json`, or WordPiece's `vocab.txt`, byte-BPE's `vocab.json` and `merges.txt`, or a
    SentencePiece model; with `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json` and chat
    templates. Ids are those of transformers 5.23's `AutoTokenizer` on the same folder.

    Args:
        folder: Where the files are.
        config: config.json, whose `model_type` decides where no `tokenizer_class` is named; read from the
            folder where left out.

    Raises:
        CheckpointError: Files are missing (the message names those that were expected) or damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; give the one with the tokenizer's files.")
    place = tokenizer_folder(folder)
    if config is None:
        path = (place if place != folder else checkpoint_folder(folder)) / "config.json"
        config = (
            parse_object(read_small_file(path, what=path.name, limit=MAX_CONFIG_BYTES), where=str(path))
            if path.exists()
            else {}
        )
    return Tokenizer(load_parts(place, config))


class Tokenizer(SpecialTokens):
    """A tokenizer with its special tokens and habits; what `load_tokenizer` returns.

    Attributes:
        class_name: HF's class whose pipeline it is.
        model_max_length: the longest row that the files allow, None where they set no limit.
        padding_side: `right` or `left`.
        truncation_side: the side that is cut off.
        chat_template: how a conversation becomes a text; several by name, or None. Like special tokens
            (`pad_token`, `pad_token_id`, …), limit and sides it can be set.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.class_name = parts.class_name
        self.padding_side = parts.padding_side
        self.truncation_side = parts.truncation_side
        self.model_max_length = max_length(parts.options)
        self._template = template(parts)
        self._limit = self.model_max_length

    @property
    def chat_template(self) -> Template | None:
        """How a conversation becomes a text; several by name, or None."""
        return self._template

    @chat_template.setter
    def chat_template(self, value: Template | None) -> None:
        templates = by_name(value)
        if value != self._template:
            self._parts.templates = templates
            self._template = dict(value) if isinstance(value, Mapping) else value

    @property
    def changed(self) -> bool:
        """Whether files have to be written that say something else than those that it was loaded from."""
        parts = self._parts
        return parts.tokens_changed or parts.templates is not None or bool(self._overrides())

    @property
    def kind(self) -> str:
        """The algorithm: `WordPiece`, `BPE`, `Unigram` or `WordLevel`."""
        return type(self.backend.model).__name__

    @overload
    def __call__(
        self, texts: Texts, pairs: Texts | None = None, *, return_tensors: None = None, **how: Any
    ) -> Encoded: ...
    @overload
    def __call__(
        self, texts: Texts, pairs: Texts | None = None, *, return_tensors: Literal["pt"], **how: Any
    ) -> Tensors: ...
    def __call__(  # type: ignore[misc]  # `how` stands for the options below
        self,
        texts: Texts,
        pairs: Texts | None = None,
        *,
        max_length: int | None = None,
        truncation: bool | str = False,
        padding: bool | str = False,
        stride: int = 0,
        return_overflowing: bool = False,
        is_split_into_words: bool = False,
        add_special_tokens: bool = True,
        pad_to_multiple_of: int | None = None,
        return_tensors: Literal["pt"] | None = None,
    ) -> Encoded | Tensors:
        """Encode one text or several, or pairs of them; the result's attributes always have rows.

        Args:
            texts: One text or a list of them; with `is_split_into_words` lists of words.
            pairs: The second texts.
            max_length: In tokens; `model_max_length` where left out.
            truncation: False, True (`longest_first`), `only_first`, `only_second`.
            padding: False, True (to the longest row), `max_length`.
            stride: How many tokens a text's next row repeats.
            return_overflowing: Give what was cut off as further rows.
            is_split_into_words: The texts are lists of words.
            add_special_tokens: Put the model's special tokens around the texts.
            pad_to_multiple_of: Round padded lengths up.
            return_tensors: `pt` for the model's arguments as tensors: ``model(**tokenizer(text, …))``.

        Raises:
            InputError: The arguments do not fit each other, or this tokenizer.
        """
        from biject.tokenization.encoded import Encoded

        batch = rows(texts, pairs, is_split_into_words)
        if return_tensors not in (None, "pt"):
            raise InputError(f"return_tensors is 'pt' or None, found {return_tensors!r}.")
        if not batch:
            return Encoded([], [], self._parts.segments)
        self._set_truncation(truncation, max_length, stride)
        self._set_padding(padding, max_length, pad_to_multiple_of)
        with library_errors(InputError, "the texts cannot be tokenized"):
            encodings = self.backend.encode_batch(
                batch, is_pretokenized=is_split_into_words, add_special_tokens=add_special_tokens
            )
        groups = [[row, *row.overflowing] if return_overflowing else [row] for row in encodings]
        origin = [index for index, group in enumerate(groups) for _ in group]
        one = is_one(texts, is_split_into_words) and not return_overflowing
        encoded = Encoded([row for group in groups for row in group], origin, self._parts.segments, one)
        return encoded if return_tensors is None else encoded.tensors()

    def encode(self, text: str, pair: str | None = None, **how: Any) -> list[int]:
        """The ids of one text, or a pair; `how` as in a call."""
        ids: list[int] = self(text, pair, **how).input_ids[0]
        return ids

    def tokenize(self, text: str, pair: str | None = None, *, add_special_tokens: bool = False) -> list[str]:
        """The tokens of one text, or a pair."""
        tokens: list[str] = self(text, pair, add_special_tokens=add_special_tokens).tokens[0]
        return tokens

    def _set_truncation(self, truncation: bool | str, max_length: int | None, stride: int) -> None:
        how = strategy("truncation", truncation, _TRUNCATION)
        limit = self.model_max_length if max_length is None else max_length
        if how == "do_not_truncate" or limit is None:
            self.backend.no_truncation()
            return
        with library_errors(InputError, f"rows of {limit} tokens with a stride of {stride} cannot be cut"):
            self.backend.enable_truncation(limit, stride=stride, strategy=how, direction=self.truncation_side)

    def _set_padding(self, padding: bool | str, max_length: int | None, multiple: int | None) -> None:
        how = strategy("padding", padding, _PADDING)
        length = self.model_max_length if max_length is None else max_length
        if how == "do_not_pad" or (how == "max_length" and length is None):
            self.backend.no_padding()
            return
        if self.pad_token is None or self.pad_token_id is None:
            raise InputError(
                "padding needs a padding token, and this tokenizer has none: encode one text at a time, or "
                "name one as `pad_token` in tokenizer_config.json."
            )
        self.backend.enable_padding(
            direction=self.padding_side,
            pad_id=self.pad_token_id,
            pad_token=self.pad_token,
            length=length if how == "max_length" else None,
            pad_to_multiple_of=multiple,
        )

    def decode(
        self,
        ids: int | Sequence[int] | torch.Tensor,
        *,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> str:
        """The text of an id, or of some, as far as the tokenizer keeps it."""
        row = as_ids(ids)
        with library_errors(InputError, f"the ids {shown(row)} cannot be decoded"):
            text = self.backend.decode(row, skip_special_tokens=skip_special_tokens)
        clean = clean_up_tokenization_spaces
        if clean is None:
            clean = bool(self._parts.options.get("clean_up_tokenization_spaces", False))
        return cleaned(text) if clean and self.kind != "BPE" else text

    def batch_decode(self, rows: Iterable[Sequence[int]] | torch.Tensor, **how: Any) -> list[str]:
        """The texts of rows of ids, or of one row alone; `how` as in `decode`."""
        found: list[Any] = [row.tolist() if hasattr(row, "tolist") else row for row in rows]
        one = bool(found) and all(isinstance(row, int) for row in found)
        return [self.decode(ids, **how) for ids in ([found] if one else found)]

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        padding: bool | str = False,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: Literal["pt"] | None = None,
        return_dict: bool = True,
        **values: Any,
    ) -> str | list[int] | Encoded | Tensors | torch.Tensor:
        """A conversation as the model's arguments, as ids, or as text.

        Args:
            messages: Each with `role` and `content`.
            tools: JSON schemas of functions.
            chat_template: Instead of the tokenizer's own; or the name of one of several.
            add_generation_prompt: End with what begins an answer.
            continue_final_message: End with the last message's text, for generation to go on with it.
            tokenize: False for the text.
            padding: As of a call, like the next two.
            truncation: Cut at the end.
            max_length: In tokens.
            return_tensors: `pt` for a tensor, (1, L).
            return_dict: The model's arguments by name, as transformers 5 gives them; False for the ids alone.
            values: The template's own switches.

        Raises:
            InputError: There is no template, it does not take this conversation, or an argument of
                transformers' that is not there.
            MissingExtraError: jinja2 is not installed.
        """
        from biject.tokenization import chat

        if strange := sorted(name for name in _NOT_OF_A_CHAT & values.keys() if values[name]):
            raise InputError(f"`apply_chat_template` has no {', '.join(strange)}: leave it out.")
        named = isinstance(self.chat_template, Mapping) and chat_template in self.chat_template
        own = self.chat_template[str(chat_template)] if named else chat_template  # type: ignore[index]
        chosen = chat.pick(own or self.chat_template, tools=tools is not None)
        given = {**self.special_tokens, **values}
        if continue_final_message not in (True, False):
            raise InputError("`continue_final_message` goes on with `content`: give True or False, no name.")
        if continue_final_message:
            if add_generation_prompt:
                raise InputError("`continue_final_message` and `add_generation_prompt` exclude each other.")
            text = chat.render_unfinished(chosen, messages, tools=tools, values=given)
        else:
            text = chat.render(
                chosen, messages, tools=tools, add_generation_prompt=add_generation_prompt, values=given
            )
        if not tokenize:
            return text
        how: dict[str, Any] = {"padding": padding, "truncation": truncation, "max_length": max_length}
        if return_tensors is None:
            found: Encoded = self(text, add_special_tokens=False, **how)
            return found if return_dict else found.input_ids[0]
        tensors = self([text], add_special_tokens=False, return_tensors=return_tensors, **how)
        ids: torch.Tensor = tensors["input_ids"]
        return tensors if return_dict else ids

    def add_tokens(self, tokens: Sequence[Token], *, special: bool = False) -> int:
        """Add tokens that the vocabulary does not have; they are never split.

        Args:
            tokens: Texts, or `tokenizers.AddedToken`s.
            special: Left out by `decode(skip_special_tokens=True)`.

        Returns:
            How many were new; `Model.resize_token_embeddings` makes room for them.
        """
        with library_errors(InputError, f"the tokens {shown(list(tokens))} cannot be added"):
            add = self.backend.add_special_tokens if special else self.backend.add_tokens
            count = int(add(list(tokens)))
        self._parts.tokens_changed = True
        return count

    def add_special_tokens(self, roles: Mapping[str, Token]) -> int:
        """Give tokens a role: `{"pad_token": "[PAD]"}`; those that the vocabulary lacks are added.

        Raises:
            InputError: There is no such role.
        """
        unknown = sorted(set(roles) - set(ROLES))
        if unknown:
            raise InputError(f"no role {', '.join(unknown)}; there are {', '.join(ROLES)}.")
        made = {
            role: AddedToken(token, normalized=False, special=True) if isinstance(token, str) else token
            for role, token in roles.items()
        }
        self._parts.roles.update(made)
        self._parts.cleared -= made.keys()
        return self.add_tokens(list(made.values()), special=True)

    def changed_files(self) -> dict[str, bytes]:
        """The files that say something else since it was loaded, by name."""
        from biject.tokenization.save import patched

        return patched(self._parts, self._overrides()) if self.changed else {}

    def removed_files(self) -> frozenset[str]:
        """The files that are not to be copied: of chat templates that it has no more."""
        parts = self._parts
        if parts.templates is None:
            return frozenset()
        return frozenset(
            template_name(name) for name in parts.files.templates.keys() - parts.templates.keys()
        )

    def _overrides(self) -> dict[str, Any]:
        """What was set of tokenizer_config.json; sides only where it has them, as HF saves them."""
        own: dict[str, Any] = {}
        if self.model_max_length != self._limit:
            own["model_max_length"] = self.model_max_length
        for name in ("padding_side", "truncation_side"):
            side = getattr(self, name)
            if name in (self._parts.files.settings or {}) and side != getattr(self._parts, name):
                own[name] = side
        return own

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files: unchanged, but for those that name what was added or set."""
        from biject.tokenization.save import save_files

        save_files(self._parts, self.changed_files(), Path(folder), without=self.removed_files())

    save_pretrained = save
