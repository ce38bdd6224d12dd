"""Prompts of one call: checked, with their positions, and repeated where several texts are requested."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from biject.config.model import ModelConfig
from biject.errors import InputError
from biject.generate.settings import LengthError, Settings


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """A batch of prompts."""

    ids_BL: Tensor  # noqa: N815
    positions_BL: Tensor  # noqa: N815
    """Counted over real tokens; 0 where padding is."""
    real_BS: Tensor | None  # noqa: N815
    """(B, the longest text's columns), True where a token is real; None if all are."""
    first_B: Tensor | None  # noqa: N815
    """The first real column of each text; None if that is always 0."""


def prompt_of(
    config: ModelConfig,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    settings: Settings,
    device: torch.device,
) -> Prompt:
    """Check what the caller gives.

    Raises:
        InputError: Prompts that are empty, padded on the right, or longer than the table of positions.
    """
    if input_ids.dim() != 2 or input_ids.is_floating_point():
        raise InputError(f"`input_ids` must be ids, (batch, length); found {_kind(input_ids)}.")
    if 0 in input_ids.shape:
        raise InputError(
            f"the prompt is empty (`input_ids` has shape {tuple(input_ids.shape)}): there is nothing to "
            "continue. Give at least one token, e.g. the beginning-of-text token."
        )
    ids_BL = input_ids.to(device=device, dtype=torch.long)
    low, high = int(ids_BL.min()), int(ids_BL.max())
    if low < 0 or high >= config.vocab_size:
        raise InputError(f"`input_ids` must lie in 0…{config.vocab_size - 1}; found {low}…{high}.")
    real_BL = _inferred(ids_BL, settings) if attention_mask is None else attention_mask.to(device) != 0
    _check_mask(ids_BL, real_BL)
    positions_BL = (real_BL.long().cumsum(-1) - 1).masked_fill(~real_BL, 0)
    _check_table(config, settings, ids_BL.shape[1], int(positions_BL.max()))
    _check_renewal(config, settings, ids_BL.shape[1])
    times = settings.num_return_sequences
    if len(ids_BL) * times > 1:
        _check_pad(config, settings)
    ids_BL, positions_BL, real_BL = (
        x.repeat_interleave(times, dim=0) for x in (ids_BL, positions_BL, real_BL)
    )
    if bool(real_BL.all()):
        return Prompt(ids_BL=ids_BL, positions_BL=positions_BL, real_BS=None, first_B=None)
    later = real_BL.new_ones(ids_BL.shape[0], settings.max_length - ids_BL.shape[1])
    return Prompt(
        ids_BL=ids_BL,
        positions_BL=positions_BL,
        real_BS=torch.cat([real_BL, later], dim=-1),
        first_B=real_BL.int().argmax(dim=1),
    )


def _check_renewal(config: ModelConfig, settings: Settings, length: int) -> None:
    """Raise where a text would outgrow the length at which HF computes all of it anew.

    Raises:
        InputError: it would.
    """
    for layer in config.layers:
        rope = getattr(layer.attention, "rope", None)
        if rope is None or not rope.renewed:
            continue
        most = rope.original_max_position_embeddings
        if most is not None and length <= most < settings.max_length:
            raise InputError(
                f"texts of this model that outgrow {most} tokens have other rotary positions from their "
                f"first token on, and are not computed anew here: expected a prompt of more than {most} "
                f"tokens or a `max_length` up to that, found {length} and {settings.max_length}."
            )


def _check_pad(config: ModelConfig, settings: Settings) -> None:
    """Raise where texts that end before others could only be filled with what is no token.

    Raises:
        InputError: that is so.
    """
    size, pad = config.vocab_size, settings.pad_token_id
    can_end = settings.stop_strings or any(0 <= end < size for end in settings.eos_token_ids)
    if settings.eos_token_ids and can_end and pad is not None and pad >= size:
        raise InputError(
            "`pad_token_id` (else the first of `eos_token_id`), which fills texts that end before others, "
            f"must lie in 0…{size - 1}; found {pad}."
        )


def _inferred(ids_BL: Tensor, settings: Settings) -> Tensor:
    """Padding is seen by its id, unless that could be the end of a text, as in HF."""
    pad = settings.pad_token_id
    if pad is None or pad in settings.eos_token_ids:
        return torch.ones_like(ids_BL, dtype=torch.bool)
    return ids_BL != pad


def _check_mask(ids_BL: Tensor, real_BL: Tensor) -> None:
    if real_BL.shape != ids_BL.shape:
        raise InputError(
            f"`attention_mask` must have the shape of `input_ids`, {tuple(ids_BL.shape)}; found "
            f"{tuple(real_BL.shape)}."
        )
    padded = (~real_BL[:, -1]).nonzero().flatten().tolist()
    if padded:
        raise InputError(
            f"the last column of prompt {padded[0]} is padding: a text is continued from its last column. "
            "Pad prompts on the left (padding_side='left')."
        )


def _check_table(config: ModelConfig, settings: Settings, prompt: int, last: int) -> None:
    """A table of positions ends somewhere; rotary positions do not."""
    left = room(config, 0)
    if left is None:
        return
    table = left - 1
    if last >= table:
        raise LengthError(
            f"the prompt has {last + 1} tokens, and the model's table of positions ends at {table}: cut it."
        )
    new = settings.max_length - prompt
    if last + new > table:  # the last token is not looked up
        raise LengthError(
            f"a prompt of {last + 1} tokens and {new} new ones do not fit the model's table of {table} "
            f"positions: use max_new_tokens={table - last} or less, or shorten the prompt."
        )


def room(config: ModelConfig, prompt: int) -> int | None:
    """How many tokens can follow `prompt` ones: the last of them needs no position. None without a limit."""
    if "positions" not in config.embedding.order:
        return None
    return config.embedding.max_position_embeddings + 1 - prompt


def _kind(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape)}"
