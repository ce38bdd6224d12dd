"""Special tokens and single tokens: the part of a tokenizer that cuts no text."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, ClassVar, overload

import tokenizers

from biject.checkpoint.strict_json import shown
from biject.errors import InputError
from biject.tokenization.finish import Parts, all_special
from biject.tokenization.settings import Token

_AROUND = {"add_bos_token", "add_eos_token"}


class _Text:
    """`pad_token`, …: the token that has a role, None where none has."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name

    def __get__(self, instance: SpecialTokens, owner: type) -> str | None:
        token = instance._parts.roles.get(self.role)
        return None if token is None else str(token)

    def __set__(self, instance: SpecialTokens, value: Token | None) -> None:
        instance._give_role(self.role, value)


class _Id:
    """`pad_token_id`, …: its id."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.role = name, name.removesuffix("_id")

    def __get__(self, instance: SpecialTokens, owner: type) -> int | None:
        token = instance._parts.roles.get(self.role)
        return None if token is None else instance.backend.token_to_id(str(token))

    def __set__(self, instance: SpecialTokens, value: int | None) -> None:
        instance._give_role(self.role, None if value is None else _token_of(instance, self.name, value))


def _token_of(tokenizer: SpecialTokens, name: str, index: object) -> str:
    try:
        token = tokenizer.backend.id_to_token(operator.index(index))  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        token = None
    if token is None:
        raise InputError(f"`{name}` must be the id of a token, found {shown(index)}.")
    return str(token)


class _Side:
    """`padding_side`, `truncation_side`: `right` or `left`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: SpecialTokens, owner: type) -> str:
        side: str = instance.__dict__[self.name]
        return side

    def __set__(self, instance: SpecialTokens, value: str) -> None:
        if value not in ("left", "right"):
            raise InputError(f"`{self.name}` must be left or right, found {shown(value)}.")
        instance.__dict__[self.name] = value


class SpecialTokens:
    """A tokenizer's vocabulary: roles, tokens to ids and back."""

    bos_token, eos_token, unk_token, sep_token = _Text(), _Text(), _Text(), _Text()
    pad_token, cls_token, mask_token = _Text(), _Text(), _Text()
    bos_token_id, eos_token_id, unk_token_id, sep_token_id = _Id(), _Id(), _Id(), _Id()
    pad_token_id, cls_token_id, mask_token_id = _Id(), _Id(), _Id()
    padding_side, truncation_side = _Side(), _Side()

    _PLAIN: ClassVar[frozenset[str]] = frozenset({"class_name", "model_max_length"})

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def __setattr__(self, name: str, value: Any) -> None:
        """Set what has an effect.

        Raises:
            InputError: Nothing reads an attribute of this name, or its value cannot be.
        """
        known = name.startswith("_") or name in self._PLAIN
        if known or any(name in vars(kind) for kind in type(self).__mro__):
            object.__setattr__(self, name, value)
            return
        hint = "Set pad_token and the like (or pad_token_id), padding_side, truncation_side, "
        hint += "model_max_length or chat_template."
        if name in _AROUND:
            hint = "The post-processor of tokenizer.json says what is put around texts: change it there, or "
            hint += "put the token's text to yours."
        raise InputError(f"`{name}` of a tokenizer has no effect here, and is not set. {hint}")

    def _give_role(self, role: str, token: Token | None) -> None:
        """Let a token of the vocabulary have a role, or with None none.

        Raises:
            InputError: It is no token, or none of the vocabulary.
        """
        roles = self._parts.roles
        if token is not None and not isinstance(token, Token):
            raise InputError(f"`{role}` must be a token's text or None, found {shown(token)}.")
        if token is not None and self.backend.token_to_id(str(token)) is None:
            raise InputError(
                f"`{role}` must be a token of the vocabulary, which has no {shown(str(token))}. Add it by "
                f"add_special_tokens({{{role!r}: …}}), and its row by resize_token_embeddings(tokenizer)."
            )
        old = roles.get(role)
        if token == (str(old) if isinstance(token, str) and old is not None else old):
            return
        self._parts.cleared.discard(role)
        if token is None:
            self._parts.cleared.add(role)
        roles[role] = token
        self._parts.tokens_changed = True

    @property
    def backend(self) -> tokenizers.Tokenizer:
        """The tokenizer of the `tokenizers` library."""
        return self._parts.backend

    def __len__(self) -> int:
        """Tokens, added ones included; the highest id can be higher where ids have gaps."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def __bool__(self) -> bool:
        return True

    @property
    def vocab(self) -> dict[str, int]:
        """Every token's id."""
        return dict(self.backend.get_vocab(with_added_tokens=True))

    @property
    def vocab_size(self) -> int:
        """Tokens without added ones."""
        return int(self.backend.get_vocab_size(with_added_tokens=False))

    def get_vocab(self) -> dict[str, int]:
        """Every token's id."""
        return self.vocab

    @property
    def highest_id(self) -> int:
        """No token has a higher id, whatever gaps the ids have; the vocabulary is listed only at need."""
        highest = self._parts.highest_id
        if highest is None:
            return max(self.vocab.values(), default=-1)
        return max(highest, *self.backend.get_added_tokens_decoder(), -1)

    @property
    def special_tokens(self) -> dict[str, str]:
        """Special tokens by role (`cls_token`, …), those that there are."""
        return {role: str(token) for role, token in self._parts.roles.items() if token is not None}

    @property
    def all_special_tokens(self) -> list[str]:
        """Every special token once, with or without a role."""
        return all_special(self._parts)

    @property
    def all_special_ids(self) -> list[int | None]:
        """Their ids."""
        return self.convert_tokens_to_ids(self.all_special_tokens)

    @overload
    def convert_tokens_to_ids(self, tokens: str) -> int | None: ...
    @overload
    def convert_tokens_to_ids(self, tokens: list[str] | tuple[str, ...]) -> list[int | None]: ...
    def convert_tokens_to_ids(
        self, tokens: str | list[str] | tuple[str, ...]
    ) -> int | list[int | None] | None:
        """A token's id, or the unknown token's."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        found = self.backend.token_to_id(tokens)
        return self.unk_token_id if found is None else found

    @overload
    def convert_ids_to_tokens(self, ids: int) -> str | None: ...
    @overload
    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str | None]: ...
    def convert_ids_to_tokens(self, ids: int | Sequence[int]) -> str | list[str | None] | None:
        """An id's token, None where no token has it."""
        if isinstance(ids, int):
            return self.backend.id_to_token(ids)
        return [self.backend.id_to_token(int(index)) for index in ids]
