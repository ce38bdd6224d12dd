"""Special tokens and single tokens: the part of a tokenizer that cuts no text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import tokenizers

from biject.tokenization.finish import Parts, all_special


class _Text:
    """`pad_token`, …: the token that has a role, None where none has."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name

    def __get__(self, instance: SpecialTokens, owner: type) -> str | None:
        token = instance._parts.roles.get(self.role)
        return None if token is None else str(token)


class _Id:
    """`pad_token_id`, …: its id."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name.removesuffix("_id")

    def __get__(self, instance: SpecialTokens, owner: type) -> int | None:
        token = instance._parts.roles.get(self.role)
        return None if token is None else instance.backend.token_to_id(str(token))


class SpecialTokens:
    """A tokenizer's vocabulary: roles, tokens to ids and back."""

    bos_token, eos_token, unk_token, sep_token = _Text(), _Text(), _Text(), _Text()
    pad_token, cls_token, mask_token = _Text(), _Text(), _Text()
    bos_token_id, eos_token_id, unk_token_id, sep_token_id = _Id(), _Id(), _Id(), _Id()
    pad_token_id, cls_token_id, mask_token_id = _Id(), _Id(), _Id()

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

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
