"""What a tokenizer makes of a batch of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from biject.errors import InputError

if TYPE_CHECKING:
    import tokenizers
    import torch


class Tensors(dict[str, "torch.Tensor"]):
    """A model's arguments by name, (B, L) each: `model(**tensors)`; also as attributes."""

    def __getattr__(self, name: str) -> torch.Tensor:
        if name not in self:
            raise AttributeError(f"No tensor is called {name!r}; there are {', '.join(self)}.")
        return self[name]

    def to(self, device: str | torch.device) -> Tensors:
        """The same on another device."""
        return Tensors({name: tensor.to(device) for name, tensor in self.items()})


@dataclass(frozen=True)
class Encoded:
    """Rows of token ids and what belongs to each token; every attribute is a list of rows.

    The model's arguments among them can be had by name, too, as transformers gives them:
    `encoded["input_ids"]`, `{**encoded}`; of one text (not a list of texts) that is its row.

    A text that was cut has more than one row where overflowing tokens were requested:
    `overflow_to_sample` is the text that each row is of.
    """

    encodings: Sequence[tokenizers.Encoding]
    overflow_to_sample: list[int]
    segments: bool = False
    """Whether the model takes `token_type_ids`."""
    single: bool = False
    """Whether this is one row of one text, not of a list."""

    def __len__(self) -> int:
        return len(self.encodings)

    def keys(self) -> tuple[str, ...]:
        """Names of the model's arguments."""
        own = ("input_ids", "token_type_ids", "attention_mask")
        return own if self.segments else own[::2]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __getitem__(self, name: str) -> list[list[int]] | list[int]:
        if name not in self.keys():
            raise KeyError(f"{name}; there are {', '.join(self.keys())}")
        rows: list[list[int]] = getattr(self, name)
        return rows[0] if self.single else rows

    @cached_property
    def input_ids(self) -> list[list[int]]:
        """Token ids."""
        return [row.ids for row in self.encodings]

    @cached_property
    def attention_mask(self) -> list[list[int]]:
        """1 for a token, 0 for padding."""
        return [row.attention_mask for row in self.encodings]

    @cached_property
    def token_type_ids(self) -> list[list[int]] | None:
        """0 for the first text, 1 for the second; None for models without segments."""
        return [row.type_ids for row in self.encodings] if self.segments else None

    @cached_property
    def special_tokens_mask(self) -> list[list[int]]:
        """1 for tokens that the tokenizer put there, padding among them."""
        return [row.special_tokens_mask for row in self.encodings]

    @cached_property
    def offsets(self) -> list[list[tuple[int, int]]]:
        """Where in its text a token is, in characters: start, end."""
        return [row.offsets for row in self.encodings]

    @cached_property
    def word_ids(self) -> list[list[int | None]]:
        """Which word of its text a token is of; None for special tokens."""
        return [row.word_ids for row in self.encodings]

    @cached_property
    def sequence_ids(self) -> list[list[int | None]]:
        """0 for the first text, 1 for the second; None for special tokens."""
        return [row.sequence_ids for row in self.encodings]

    @cached_property
    def tokens(self) -> list[list[str]]:
        """The tokens' texts."""
        return [row.tokens for row in self.encodings]

    def tensors(self) -> Tensors:
        """The model's arguments.

        Raises:
            InputError: The rows have different lengths, or there are none.
        """
        import torch

        lengths = sorted({len(row) for row in self.input_ids})
        if len(lengths) != 1:
            raise InputError(
                f"tensors need rows of one length, found {len(lengths)} different ones (up to "
                f"{lengths[-1] if lengths else 0} tokens in {len(self)} rows). Use padding=True."
            )
        return Tensors({name: torch.tensor(getattr(self, name), dtype=torch.long) for name in self.keys()})
