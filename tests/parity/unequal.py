"""Batches of unequal texts, and what must be equal of them: outputs at real tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from biject.families import family, text_families
from biject.model import Model
from biject.nn.batch import Batch, HeadRequest
from biject.nn.layout import Packed
from biject.verify.inputs import labels, limits
from parity.harness import equal

ALL = [
    (name, head)
    for name in text_families()
    for head in family(name).heads
    if "causal" not in family(name).heads
]
"""Every encoder family with every head of it."""
ONE_A_TEXT = {"pooler_output"}


def sizes(model_type: str, positions: int, **more: Any) -> dict[str, Any]:
    """Config keys for a small model with room for so many tokens."""
    wide = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    if model_type == "distilbert":
        wide = {"dim": 64, "hidden_dim": 128, "n_heads": 4}
    return {**wide, "max_position_embeddings": positions + 2, **more}


def lengths(batch: int, shortest: int, longest: int, *, seed: int = 0) -> list[int]:
    """Numbers of tokens; one text has the most."""
    draw = torch.Generator().manual_seed(seed)
    found = torch.randint(shortest, longest + 1, (batch,), generator=draw).tolist()
    return [longest, *found[1:]]


def texts(model: Model, counts: list[int], *, kind: str = "right", seed: int = 0) -> dict[str, Tensor]:
    """Ids and mask of a batch, padded on the `right`, on the `left`, or with `holes` and a text of padding
    only.
    """
    bound, columns = limits(model.hf_config), max(counts)
    mask = (torch.arange(columns) < torch.tensor(counts)[:, None]).long()
    if kind == "left":
        mask = mask.flip(1)
    elif kind == "holes":
        mask[0, columns // 2] = 0
        mask[1, 0] = 0
        mask[2] = 0
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, bound.vocab_size - 1, mask.shape, generator=draw)
    ids = (ids + (ids >= bound.pad_id).long()).masked_fill(mask == 0, bound.pad_id)
    return {"input_ids": ids, "attention_mask": mask}


def labelled(model: Model, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch with labels for the model's head."""
    return {**batch, **labels(model.hf_config, model.head_name, batch["attention_mask"])}


def is_packed(model: Model, batch: dict[str, Tensor]) -> bool:
    """Whether the model leaves padding out of this batch."""
    names = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
    plan = model.planner(model, Batch(**{name: batch.get(name) for name in names}), HeadRequest())
    return isinstance(plan.layout, Packed)


def real_differences(ours: Model, theirs: nn.Module, batch: dict[str, Any], **flags: Any) -> list[str]:
    """Names of HF's outputs that ours lacks or of which a bit differs at a real token."""
    with torch.no_grad():
        mine, other = ours(**batch, **flags), theirs(**batch, **flags)
    real, found = batch["attention_mask"].bool(), []
    for name in other:
        if name == "past_key_values" or (isinstance(other[name], tuple) and not other[name]):
            continue  # a cache; and HF's BERT returns empty cross_attentions
        if name == "logits" and ours.head_name in ("mlm", "causal") and "loss" in other:
            continue  # a language model that is given labels gives the loss only
        if name not in mine:
            found.append(f"{name} is missing")
            continue
        many = isinstance(other[name], tuple)
        a, b = (out[name] if many else (out[name],) for out in (mine, other))
        per_token = name not in ONE_A_TEXT and not (name == "logits" and ours.head_name == "seqcls")
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            if x.shape != y.shape:
                found.append(f"{name}[{index}] has shape {tuple(x.shape)}, not {tuple(y.shape)}")
            elif not equal(*((x[real], y[real]) if per_token and x.dim() >= 2 else (x, y))):
                found.append(found.append(f"{name}[{index}] differs"))
    return found
