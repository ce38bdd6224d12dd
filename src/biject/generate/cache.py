"""`Cache`: what was computed of texts, kept for the next call that begins with them."""

from __future__ import annotations

from copy import copy
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from biject.config.rope import RopeConfig
from biject.errors import InputError
from biject.generate.prompt import Prompt
from biject.model import Model
from biject.nn.fingerprint import Fingerprint
from biject.nn.kv_cache import KVCache
from biject.nn.lora import LoraModule

Made = tuple[object, ...]
"""How keys and values came about: equal texts have equal ones only where this is equal."""


class Cache:
    """Keys and values of a batch of texts, kept between calls of `Model.generate`.

    Give the same one to each call, as `past_key_values`, with the whole texts: the columns that it holds
    already are found by their ids, and only those after them are computed. Where the texts part from what it
    holds, it forgets the rest. A copy (`copy.deepcopy`) goes its own way: several texts can begin with one.

    It belongs to one model. Columns are computed anew where its parameters or active adapters changed,
    where `numerics` or `quantization` is another, and where rotary positions depend on a text's length
    (`dynamic`, `longrope`) and it outgrew the original one.

    Attributes:
        num_reused: how many columns the last call found in it.
    """

    def __init__(self) -> None:
        self._kept: KVCache | None = None
        self._model: ReferenceType[Model] | None = None
        self._made: Made = ()
        self._ids_BS = self._real_BS = torch.empty(0, 0)
        self._reach = self.num_reused = 0

    def get_seq_length(self) -> int:
        """How many columns it holds."""
        return self._ids_BS.shape[1]

    def crop(self, max_length: int) -> None:
        """Forget all but the first `max_length` columns; a negative number: so many of the last."""
        self._cut(max_length if max_length >= 0 else max(0, self.get_seq_length() + max_length))

    @property
    def num_bytes(self) -> int:
        """What its buffers take."""
        return 0 if self._kept is None else self._kept.num_bytes

    def begin(self, model: Model, prompt: Prompt, *, length: int, form: str) -> tuple[KVCache, int]:
        """Buffers for texts of `length` columns, and how many of the prompt's they hold.

        At least the prompt's last column is left to compute.

        Raises:
            InputError: it holds texts of another model, or another number of them.
        """
        batch = len(prompt.ids_BL)
        if self._model is not None and self._model() is not model:
            raise InputError(
                "`past_key_values` holds keys and values of another model: expected a cache of this one, or "
                "a new `biject.Cache()`."
            )
        if self._kept is not None and self.get_seq_length() and len(self._ids_BS) != batch:
            raise InputError(
                f"`past_key_values` holds {len(self._ids_BS)} texts and the call has {batch}: expected as "
                "many (`num_return_sequences` counts), or a new `biject.Cache()`."
            )
        made = (form, *_state(model))
        past = self._equal_columns(prompt) if self._kept is not None and made == self._made else 0
        if not _independent_of_length(model, max(self._reach, prompt.ids_BL.shape[1])):
            past = 0
        if self._kept is None or past == 0:
            self._reach = 0
            self._kept = KVCache(
                model.attentions,
                batch=batch,
                length=length,
                dtype=model.dtype,
                device=model.device,
                whole=True,
            )
        self._model, self._made = ref(model), made
        try:
            self._kept.crop(past, length=length)
        except BaseException:  # e.g. no memory: some buffers may be longer than others now
            self._kept, past = None, 0
            raise
        finally:
            self._cut(past)
        self.num_reused = past
        return self._kept, past

    def hold(self, ids_BS: Tensor, real_BS: Tensor | None) -> None:
        """Note what the buffers hold now: the ids of their columns."""
        self._ids_BS = ids_BS.clone()
        columns = torch.ones_like(ids_BS, dtype=torch.bool)
        self._real_BS = columns if real_BS is None else real_BS[:, : ids_BS.shape[1]].clone()
        self._reach = max(self._reach, ids_BS.shape[1])

    def _cut(self, past: int) -> None:
        self._ids_BS, self._real_BS = self._ids_BS[:, :past], self._real_BS[:, :past]

    def _equal_columns(self, prompt: Prompt) -> int:
        ids_BL = prompt.ids_BL
        if not self.get_seq_length():  # of any number of texts
            return 0
        most = min(self.get_seq_length(), ids_BL.shape[1] - 1)
        real_BL = (
            ids_BL.new_ones(ids_BL.shape, dtype=torch.bool) if prompt.real_BS is None else prompt.real_BS
        )
        ours, theirs = self._real_BS[:, :most], real_BL[:, :most]
        same_BL = (ours == theirs) & ((self._ids_BS[:, :most] == ids_BL[:, :most]) | ~theirs)
        return int(same_BL.all(0).long().cumprod(0).sum())

    def __deepcopy__(self, memo: dict[int, Any]) -> Cache:
        new = copy(self)
        if self._kept is not None:
            new._kept = self._kept.copied()
        memo[id(self)] = new
        return new


def _state(model: Model) -> Made:
    """What keys and values depend on beside the texts."""
    active = [module.active for module in model.modules() if isinstance(module, LoraModule)]
    return (Fingerprint(model.parameters()), active)


def _independent_of_length(model: Model, length: int) -> bool:
    """Whether texts of up to `length` tokens have the same rotary positions however long they are."""
    ropes = {one.rope for one in model.attentions if one.rope is not None}
    return all(length <= _same_up_to(rope) for rope in ropes)


def _same_up_to(rope: RopeConfig) -> float:
    if rope.type == "dynamic":
        return rope.max_position_embeddings
    if rope.type == "longrope" and rope.original_max_position_embeddings is not None:
        return rope.original_max_position_embeddings
    return float("inf")
