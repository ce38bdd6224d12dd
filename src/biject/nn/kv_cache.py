"""Keys and values of a text that grows, in buffers made once."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

import torch
from torch import Tensor

from biject.nn.plan import AttentionModule
from biject.nn.probe import addresses_matter

_ROOM = 2
"""A buffer with a window holds this many windows, so that it is seldom moved."""
EVEN_BYTES = 16
"""Heads of such widths begin at addresses that are alike in a buffer and in HF's tensors."""


class KVCache:
    """Keys and values of every layer; what `BatchPlan.cache` is while a text is generated.

    A layer with a window of W tokens gives the last W − 1 only, as no later token sees more, and its buffer
    does not grow with the text. What `update` gives has the lengths of HF's `DynamicCache` (transformers
    5.23, cache_utils.py), since the bits of attention depend on them.

    Args:
        attentions: the layers' attention modules, all causal.
        batch: how many texts.
        length: the most tokens that are ever kept.
        dtype: of keys and values.
        device: where the buffers are.
        whole: buffers keep what no window sees any more, too, so that the texts can be cut.
    """

    def __init__(
        self,
        attentions: Iterable[AttentionModule],
        *,
        batch: int,
        length: int,
        dtype: torch.dtype,
        device: torch.device,
        whole: bool = False,
    ) -> None:
        self.length, self.whole = length, whole
        self._buffers: dict[AttentionModule, _Buffer] = {}
        for attention in attentions:
            spec = attention.spec
            room = length if whole or spec.window is None else min(length, _ROOM * spec.window)
            shape = (2, batch, spec.num_key_value_heads, room, spec.head_dim)
            self._buffers[attention] = _Buffer(torch.empty(shape, dtype=dtype, device=device), spec.window)

    @property
    def num_bytes(self) -> int:
        """What the buffers take."""
        return sum(buffer.both.nbytes for buffer in self._buffers.values())

    def tensors(self, attention: AttentionModule) -> tuple[Tensor, Tensor]:
        """A layer's keys and values, (B, G, room, E) each."""
        both = self._buffers[attention].both
        return both[0], both[1]

    def crop(self, past: int, *, length: int = 0) -> None:
        """Forget all but the first `past` columns, and make room for `length`; only where all are kept."""
        assert self.whole
        self.length = max(self.length, length)
        for buffer in self._buffers.values():
            buffer.crop(past, room=self.length)

    def copied(self) -> KVCache:
        """The same in buffers of its own."""
        new = copy(self)
        new._buffers = {attention: buffer.copied() for attention, buffer in self._buffers.items()}
        return new

    def update(self, attention: AttentionModule, k_BGLE: Tensor, v_BGLE: Tensor) -> tuple[Tensor, Tensor]:
        """Keep those of this call; give all that this layer looks at, (B, G, S, E) each.

        Views of the buffers: good until the next update.
        """
        return self._buffers[attention].update(k_BGLE, v_BGLE)


class _Buffer:
    """One layer's keys and values: (2, B, G, room, E), of which `begin` to `end` are kept."""

    def __init__(self, both: Tensor, window: int | None) -> None:
        self.both, self.begin, self.end = both, 0, 0
        self.keep = None if window is None else window - 1
        uneven = both.shape[-1] * both.element_size() % EVEN_BYTES != 0
        self.copies = uneven and both.device.type == "cpu" and addresses_matter()

    def update(self, k_BGLE: Tensor, v_BGLE: Tensor) -> tuple[Tensor, Tensor]:
        new, room = k_BGLE.shape[2], self.both.shape[3]
        if self.end + new > room:
            if self.keep is None:
                raise IndexError(f"{self.end} + {new} tokens do not fit a cache of {room}")
            if self.end - self.begin + new > room:
                return self._outgrown(k_BGLE, v_BGLE, self.keep)
            kept = self.both[:, :, :, self.begin : self.end].clone()  # may overlap with where it goes
            self.begin, self.end = 0, kept.shape[3]
            self.both[:, :, :, : self.end] = kept
        end = self.end + new
        self.both[0, :, :, self.end : end] = k_BGLE
        self.both[1, :, :, self.end : end] = v_BGLE
        seen = self.both[:, :, :, self.begin : end]
        self.end = end
        if self.keep is not None:
            self.begin = max(self.begin, end - self.keep)
        return (seen[0].contiguous(), seen[1].contiguous()) if self.copies else (seen[0], seen[1])

    def crop(self, past: int, *, room: int) -> None:
        """Columns after `past` are forgotten; a buffer that is too short is made anew."""
        if room > self.both.shape[3]:
            larger = self.both.new_empty((*self.both.shape[:3], room, self.both.shape[4]))
            larger[:, :, :, :past] = self.both[:, :, :, :past]
            self.both = larger
        self.begin, self.end = 0 if self.keep is None else max(0, past - self.keep), past

    def copied(self) -> _Buffer:
        new = copy(self)
        new.both = self.both.clone()
        return new

    def _outgrown(self, k_BGLE: Tensor, v_BGLE: Tensor, keep: int) -> tuple[Tensor, Tensor]:
        """A call that is longer than the buffer sees all of its tokens; the last ones are kept."""
        new = torch.stack([k_BGLE, v_BGLE])
        if self.end > self.begin:
            new = torch.cat([self.both[:, :, :, self.begin : self.end], new], dim=3)
        self.begin, self.end = 0, min(keep, new.shape[3])
        self.both[:, :, :, : self.end] = new[:, :, :, new.shape[3] - self.end :]
        return new[0], new[1]
