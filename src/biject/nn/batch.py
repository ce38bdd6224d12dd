"""What a call passes: a batch of tokens or of pictures, and what it requests of the head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from biject.errors import InputError
from biject.nn.layout import Padded


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Texts of one call, (B, L), by Hugging Face's names: one of ids and embeddings is given; or pictures."""

    input_ids: Tensor | None = None
    inputs_embeds: Tensor | None = None
    """(B, L, D of the embedding)."""
    attention_mask: Tensor | None = None
    """Nonzero where a token is real; None means all are."""
    token_type_ids: Tensor | None = None
    position_ids: Tensor | None = None
    """(B, L) or (1, L)."""
    pixel_values: Tensor | None = None
    """(B, C, H, W), instead of ids."""
    num_rows: int = 0
    """Rows that each picture becomes."""
    interpolate: bool = False
    """Positions are interpolated where pictures have another size than the model's."""

    @property
    def shape(self) -> torch.Size:
        """(batch, length)."""
        if self.pixel_values is not None:
            return torch.Size((self.pixel_values.shape[0], self.num_rows))
        given = self.input_ids if self.input_ids is not None else self.inputs_embeds
        assert given is not None
        return given.shape[:2]

    def check(self) -> None:
        """Raise unless exactly one input is given and the shapes fit.

        Raises:
            InputError: says which argument, what was expected and what was found.
        """
        ids, embeds, mask = self.input_ids, self.inputs_embeds, self.attention_mask
        if self.pixel_values is None and (ids is None) == (embeds is None):
            raise InputError("Give exactly one of `input_ids` and `inputs_embeds`.")
        if ids is not None and ids.dim() != 2:
            raise InputError(f"`input_ids` must be (batch, length); found {tuple(ids.shape)}.")
        if embeds is not None and embeds.dim() != 3:
            raise InputError(f"`inputs_embeds` must be (batch, length, width); found {tuple(embeds.shape)}.")
        if 0 in self.shape:
            raise InputError(f"An empty batch cannot be computed; found shape {tuple(self.shape)}.")
        if mask is not None and mask.shape != self.shape:
            raise InputError(
                f"`attention_mask` must have the input's (batch, length) {tuple(self.shape)}; found "
                f"{tuple(mask.shape)}."
            )

    def grid(self) -> Padded:
        """The grid of a checked call; a mask without holes is dropped, as HF drops it (masking_utils.py)."""
        batch, length = self.shape
        mask_BL = None if self.attention_mask is None else self.attention_mask.to(torch.bool)
        if mask_BL is not None and bool(mask_BL.all()):
            mask_BL = None
        return Padded(batch=batch, length=length, mask_BL=mask_BL)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadRequest:
    """What a call requests of the head, and what it wants reported of the layers."""

    labels: Tensor | None = None
    start_positions: Tensor | None = None
    end_positions: Tensor | None = None
    """First and last tokens of answers, (B,) each."""
    logits_at: Tensor | None = None
    """(B, L), True where logits are needed."""
    log_probs: bool = False
    """Each label's log-probability, in place of a loss."""
    hidden_states: bool = False
    attentions: bool = False
    router_logits: bool = False
    """Of each layer with experts; a language model's loss then has their balance in it."""

    @property
    def trace_names(self) -> tuple[str, ...]:
        """What has to be recorded while the layers run."""
        traced = (
            ("hidden", self.hidden_states),
            ("attentions", self.attentions),
            ("router_logits", self.router_logits),
        )
        return tuple(name for name, on in traced if on)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadRows:
    """Which of the grid's rows a head reads of the last layer."""

    first: bool = False
    """Only the first column's."""
    some: bool = False
    """Only those of `read_BL`; else all are computed."""
    read_BL: Tensor | None = None  # noqa: N815
    """True where a row counts, padding or not: one at padding means that the whole grid is computed."""
    whole: bool = False
    """Padding counts in any case."""
