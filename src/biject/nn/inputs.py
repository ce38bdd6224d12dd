"""What a call may pass, and the layout it asks for."""

from __future__ import annotations

import torch
from torch import Tensor

from biject.errors import InputError
from biject.nn.layout import Padded


def check_inputs(
    input_ids: Tensor | None, inputs_embeds: Tensor | None, attention_mask: Tensor | None
) -> None:
    """Raise unless exactly one input is given and the shapes fit.

    Raises:
        InputError: says which argument, what was expected and what was found.
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise InputError("Give exactly one of `input_ids` and `inputs_embeds`.")
    if input_ids is not None and input_ids.dim() != 2:
        raise InputError(f"`input_ids` must be (batch, length); found {tuple(input_ids.shape)}.")
    if inputs_embeds is not None and inputs_embeds.dim() != 3:
        raise InputError(
            f"`inputs_embeds` must be (batch, length, width); found {tuple(inputs_embeds.shape)}."
        )
    shape = _shape(input_ids, inputs_embeds)
    if 0 in shape:
        raise InputError(f"An empty batch cannot be computed; found shape {tuple(shape)}.")
    if attention_mask is not None and attention_mask.shape != shape:
        raise InputError(
            f"`attention_mask` must have the input's (batch, length) {tuple(shape)}; found "
            f"{tuple(attention_mask.shape)}."
        )


def padded_layout(
    input_ids: Tensor | None, inputs_embeds: Tensor | None, attention_mask: Tensor | None
) -> Padded:
    """The grid of a checked call; a mask without holes is dropped, as HF drops it (masking_utils.py)."""
    batch, length = _shape(input_ids, inputs_embeds)
    mask_BL = None if attention_mask is None else attention_mask.to(torch.bool)
    if mask_BL is not None and bool(mask_BL.all()):
        mask_BL = None
    return Padded(batch=batch, length=length, mask_BL=mask_BL)


def _shape(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> torch.Size:
    given = input_ids if input_ids is not None else inputs_embeds
    assert given is not None
    return given.shape[:2]
