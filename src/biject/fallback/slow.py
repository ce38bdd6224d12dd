"""Tokenizers of transformers in Python, under our tokenizer's calls; they know no offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from biject.errors import InputError
from biject.tokenization.arguments import Texts, is_one, rows, strategy
from biject.tokenization.encoded import Encoded
from biject.tokenization.finish import Parts
from biject.tokenization.settings import Token
from biject.tokenization.tokenizer import Tokenizer


class SlowBackend:
    """Of the `tokenizers` library's tokenizer what ours asks for, by a tokenizer in Python."""

    pre_tokenizer = None
    decoder = None

    def __init__(self, hf: Any) -> None:
        self.hf = hf
        self.model = hf

    def get_vocab(self, with_added_tokens: bool = True) -> dict[str, int]:
        """Every token's id."""
        return dict(self.hf.get_vocab())

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        """Tokens, with added ones or without."""
        return int(len(self.hf) if with_added_tokens else self.hf.vocab_size)

    def token_to_id(self, token: str) -> int | None:
        """A token's id, None for one that is not there; CANINE's vocabulary is too large to be listed."""
        found = self.hf.convert_tokens_to_ids(token)
        return int(found) if found is not None and self.id_to_token(found) == token else None

    def id_to_token(self, index: int) -> str | None:
        """An id's token."""
        found = self.hf.convert_ids_to_tokens(int(index))
        return None if found is None else str(found)

    def get_added_tokens_decoder(self) -> dict[int, Any]:
        """Added tokens by id."""
        return dict(self.hf.added_tokens_decoder)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of some ids."""
        text: str = self.hf.decode(
            list(ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
        )
        return text


@dataclass
class Row:
    """One row of ids, as the `tokenizers` library gives it, but for offsets."""

    hf: Any
    ids: list[int]
    type_ids: list[int]
    special_tokens_mask: list[int]
    word_ids: list[int | None]
    sequence_ids: list[int | None]
    attention_mask: list[int]

    @cached_property
    def tokens(self) -> list[str]:
        """The tokens' texts."""
        found: list[str] = self.hf.convert_ids_to_tokens(self.ids)
        return found

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """What such a tokenizer does not know.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"{type(self.hf).__name__} is a tokenizer in Python, which does not know where in a text its "
            "tokens are: tasks that need that (qa, tag) cannot be done with it."
        )


class SlowTokenizer(Tokenizer):
    """A tokenizer in Python; what it cannot do is refused."""

    _PLAIN = Tokenizer._PLAIN | {"hf"}

    def __init__(self, hf: Any, parts: Parts) -> None:
        super().__init__(parts)
        self.hf = hf

    def _give_role(self, role: str, token: Token | None) -> None:
        super()._give_role(role, token)
        setattr(self.hf, role, token)

    def __call__(  # type: ignore[override]  # the same call, without what such a tokenizer cannot do
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
        return_tensors: str | None = None,
    ) -> Any:
        """Encode texts or pairs, as `Tokenizer` does.

        Raises:
            InputError: `return_overflowing` of pairs.
        """
        how = strategy(
            "truncation", truncation, ("longest_first", "only_first", "only_second", "do_not_truncate")
        )
        batch = rows(texts, pairs, is_split_into_words)
        if return_tensors not in (None, "pt"):
            raise InputError(f"return_tensors is 'pt' or None, found {return_tensors!r}.")
        fill = strategy("padding", padding, ("longest", "max_length", "do_not_pad"))
        length = self.model_max_length if max_length is None else max_length
        limit = None if how == "do_not_truncate" else length
        groups = []
        for one in batch:
            first, second = one if isinstance(one, tuple) else (one, None)
            if not return_overflowing:
                groups.append([self._row(first, second, limit, how, special=add_special_tokens)])
                continue
            if second is not None:
                raise InputError(f"{self.class_name} cannot cut pairs into several rows.")
            groups.append(self._windows(first, limit, stride, special=add_special_tokens))
        every = [row for group in groups for row in group]
        if fill == "longest" or (fill == "max_length" and length is not None):
            self._pad(every, length if fill == "max_length" else None, pad_to_multiple_of or 1)
        encoded = Encoded(
            every,  # type: ignore[arg-type]  # rows as the library's
            [index for index, group in enumerate(groups) for _ in group],
            self._parts.segments,
            is_one(texts, is_split_into_words) and not return_overflowing,
        )
        return encoded if return_tensors is None else encoded.tensors()

    def _ids(self, text: str | Sequence[str]) -> tuple[list[int], list[int]]:
        """Ids without special tokens, and each one's word: those given, or each token for itself."""
        if isinstance(text, str):
            ids = self.hf.convert_tokens_to_ids(self.hf.tokenize(text))
            return ids, list(range(len(ids)))
        found: list[int] = []
        words: list[int] = []
        for place, word in enumerate(text):
            ids = self.hf.convert_tokens_to_ids(self.hf.tokenize(word))
            found += ids
            words += [place] * len(ids)
        return found, words

    def _row(
        self,
        first: str | Sequence[str],
        second: str | Sequence[str] | None,
        limit: int | None,
        how: str,
        *,
        special: bool,
    ) -> Row:
        ids, words = self._ids(first)
        pair = None if second is None else self._ids(second)
        return self._made(ids, words, pair, limit, how, special=special)

    def _windows(
        self, text: str | Sequence[str], limit: int | None, stride: int, *, special: bool
    ) -> list[Row]:
        ids, words = self._ids(text)
        room = len(ids) if limit is None else limit
        if special and limit is not None:
            room -= self.hf.num_special_tokens_to_add(pair=False)
        if room <= stride and len(ids) > room:
            raise InputError(f"rows of {limit} tokens with a stride of {stride} cannot be cut.")
        step = room - stride
        starts = range(0, max(1, len(ids) - stride), step) if len(ids) > room else range(1)
        return [
            self._made(
                ids[at : at + room], words[at : at + room], None, None, "do_not_truncate", special=special
            )
            for at in starts
        ]

    def _made(
        self,
        ids: list[int],
        words: list[int],
        pair: tuple[list[int], list[int]] | None,
        limit: int | None,
        how: str,
        *,
        special: bool,
    ) -> Row:
        made = self.hf.prepare_for_model(
            ids,
            None if pair is None else pair[0],
            add_special_tokens=special,
            truncation=how if limit is not None else "do_not_truncate",
            max_length=limit,
            padding=False,
            return_special_tokens_mask=True,
            return_token_type_ids=True,
            return_attention_mask=True,
            verbose=False,
        )
        found = list(made["input_ids"])
        mask = [int(one) for one in made["special_tokens_mask"]]
        given = [*((word, 0) for word in words), *((word, 1) for word in (pair[1] if pair else ()))]
        kept = len(found) - sum(mask)
        if pair is None and self.truncation_side == "left":
            given = given[len(given) - kept :]
        if pair is not None and kept < len(given):
            given = [(None, None)] * kept  # type: ignore[list-item]  # which ones were cut is not told
        rest = iter(given)
        places: list[Any] = [(None, None) if one else next(rest, (None, None)) for one in mask]
        return Row(
            hf=self.hf,
            ids=found,
            type_ids=list(made["token_type_ids"]),
            special_tokens_mask=mask,
            word_ids=[word for word, _ in places],
            sequence_ids=[sequence for _, sequence in places],
            attention_mask=[1] * len(found),
        )

    def _pad(self, found: list[Row], length: int | None, multiple: int) -> None:
        """To the longest row, and to `length` at least."""
        pad = self.pad_token_id
        if pad is None:
            raise InputError("padding needs a padding token, and this tokenizer has none.")
        total = max([length or 0, *(len(row.ids) for row in found)])
        total = -(-total // multiple) * multiple
        for row in found:
            count = total - len(row.ids)
            fills: dict[str, Any] = {
                "ids": pad, "type_ids": 0, "special_tokens_mask": 1, "word_ids": None, "sequence_ids": None,
                "attention_mask": 0,
            }  # fmt: skip
            for name, fill in fills.items():
                values, more = getattr(row, name), [fill] * count
                setattr(row, name, [*more, *values] if self.padding_side == "left" else [*values, *more])
