"""A batch of texts that grow together, token by token in C; the prompt goes through torch as always."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from biject.errors import InputError
from biject.events import notice
from biject.nn.decode import Decoding
from biject.nn.kv_cache import KVCache
from biject.nn.native.build import library
from biject.nn.native.laid_out import LaidOut, laid_out
from biject.nn.native.matrices import Form
from biject.nn.native.structures import LayerParts, Step
from biject.nn.transformer import Transformer

LIMIT = 16
"""Texts of a batch: from then on torch's products of many rows are the faster ones."""


class NativeDecoding:
    """As `Decoding`, within the rounding of float32 (or of the codes) of it.

    The prompt's keys and values have the bits of `Decoding`'s, as its matrices are not rounded; each token
    after it is one call of step.c. A window's keys are all kept.

    Args:
        model: a decoder with the head of a causal LM.
        parts: its matrices.
        batch: how many texts.
        length: the most columns that are ever given, padding too.
        real_BS: (B, length), True where a column holds a token; None if all do.
        first_B: the first real column of each text; None if that is always 0.
        cache: one that keeps whole texts and holds their first columns already; a new one where left out.
        past: how many columns it holds.
    """

    def __init__(
        self,
        model: Transformer,
        parts: LaidOut,
        *,
        batch: int,
        length: int,
        real_BS: Tensor | None = None,
        first_B: Tensor | None = None,
        cache: KVCache | None = None,
        past: int = 0,
    ) -> None:
        self.model, self.parts = model, parts
        self.prompt = Decoding(
            model, batch=batch, length=length, real_BS=real_BS,
            whole=True, numerics="fast", cache=cache, past=past,
        )  # fmt: skip
        hidden, *widths, vocabulary = parts.widths
        wide, narrow, inner = widths
        self.x = torch.empty(batch, hidden)
        self.logits = torch.empty(batch, vocabulary)
        rows = [torch.empty(batch, width) for width in (wide, narrow, narrow, inner)]
        first = torch.zeros(batch, dtype=torch.int32) if first_B is None else first_B.int()
        self._alive = (*rows, first)
        layers = (LayerParts * len(parts.layers))(*parts.layers)
        for layer, attention in zip(layers, model.attentions, strict=True):
            layer.keys, layer.values = (one.data_ptr() for one in self.prompt.cache.tensors(attention))
        self.step = Step(
            layers=layers, final_norm=parts.final_norm, head=parts.head, first=first.data_ptr(),
            x=self.x.data_ptr(), logits=self.logits.data_ptr(),
            num_layers=len(layers), batch=batch, hidden=hidden, widest=max(hidden, wide, inner),
            room=self.prompt.cache.length,
            narrow_cache=model.dtype is torch.bfloat16,
            **{name: row.data_ptr() for name, row in zip(("q", "k", "v", "inner"), rows, strict=True)},
        )  # fmt: skip
        found = library()
        assert found is not None
        self._run: Callable[[object], int] = found.biject_step

    @property
    def past(self) -> int:
        """How many columns were given."""
        return self.prompt.past

    def __call__(self, ids_BL: Tensor, positions_BL: Tensor) -> Tensor:
        """Logits of the token after the last of these columns: (B, L), (B, L) → (B, V), float32 after the
        prompt, good until the next call.
        """
        if self.past == 0 or ids_BL.shape[1] > 1:
            return self.prompt(ids_BL, positions_BL)
        step, embed = self.step, self.model.tables
        self.x.copy_(embed.tokens.weight[ids_BL[:, 0]])
        if "positions" in embed.order:
            self.x += embed.positions.weight[positions_BL[:, 0]]
        angles = [self.model.rotary(rope)(positions_BL, torch.float32) for rope in self.parts.ropes]
        if angles:
            cos, sin = (torch.stack(both).contiguous() for both in zip(*angles, strict=True))
            step.cos, step.sin = cos.data_ptr(), sin.data_ptr()
        step.past, step.threads = self.past, torch.get_num_threads()
        if self._run(ctypes.byref(step)):
            raise MemoryError("no memory for a decode step")
        self.prompt.past += 1
        return self.logits


def native_decoding(
    model: Transformer,
    form: Form | None,
    *,
    batch: int,
    length: int,
    real_BS: Tensor | None,
    first_B: Tensor | None,
    cache: KVCache | None = None,
    past: int = 0,
) -> Decoding | NativeDecoding:
    """Steps in C where they can be, else as always.

    Raises:
        InputError: codes were requested, and these steps cannot be computed with them.
    """
    parts: LaidOut | str
    if batch > LIMIT:
        parts = f"a batch has {batch} texts (steps take up to {LIMIT})"
    elif real_BS is not None and first_B is not None and not _padded_left(real_BS, first_B):
        parts = "a prompt's mask has holes"
    else:
        parts = laid_out(model, form)
    if isinstance(parts, str):
        if form is not None:
            raise InputError(
                f"quantization={form!r}: this model is not computed with codes, because {parts}."
            )
        notice("steps-in-torch", f"numerics='fast': tokens come by torch's own products, because {parts}.")
        return Decoding(
            model, batch=batch, length=length, real_BS=real_BS, numerics="fast", cache=cache, past=past
        )
    return NativeDecoding(
        model, parts, batch=batch, length=length, real_BS=real_BS, first_B=first_B, cache=cache, past=past
    )


def _padded_left(real_BS: Tensor, first_B: Tensor) -> bool:
    columns = torch.arange(real_BS.shape[1], device=real_BS.device)
    return bool((real_BS == (columns >= first_B[:, None])).all())
