"""A text continued token by token: the same layers, with a memory of what was there before."""

from __future__ import annotations

import torch
from torch import Tensor

from biject.nn.attend import causal_mask
from biject.nn.causal import CausalCall
from biject.nn.layout import Padded
from biject.nn.lm import CausalHead
from biject.nn.memory import Memory
from biject.nn.transformer import Transformer


class Decoding:
    """One batch of texts that grow together. Each call takes the next columns, gives the logits after.

    Args:
        model: a decoder with the head of a causal LM.
        batch: how many texts.
        length: the most columns that are ever given, padding too.
        real_BS: (B, length), True where a column holds a token; None if all do.

    In HF's shapes: the first call sees all columns of the prompt, the head its last one only, and masks are
    left out where HF leaves them out, as the bits of a product depend on them.
    """

    def __init__(self, model: Transformer, *, batch: int, length: int, real_BS: Tensor | None = None) -> None:
        weight, causal = model.embed.tokens.weight, model.config.causal
        assert causal is not None
        assert isinstance(model.head, CausalHead)
        self.model, self.head, self.batch, self.past = model, model.head, batch, 0
        self.real_BS, self.always = real_BS, causal.upcast
        self.windows = frozenset(causal.windows)
        self.layers = [model.layers[index] for index in model.config.layer_order]
        self.memory = Memory(
            model.config, batch=batch, length=length, dtype=weight.dtype, device=weight.device
        )

    def __call__(self, ids_BL: Tensor, positions_BL: Tensor) -> Tensor:
        """Logits of the token after the last of these columns: (B, L), (B, L) → (B, V)."""
        model, queries = self.model, ids_BL.shape[1]
        layout = Padded(batch=self.batch, length=queries, mask_BL=None)
        x_TD = model._embed(layout, ids_BL, None, positions_BL, None)
        turn = None
        if model.rotary is not None:
            cos_BLE, sin_BLE = model.rotary(positions_BL, x_TD.dtype)
            turn = (layout.rows(cos_BLE), layout.rows(sin_BLE))
        masks = {window: self._mask(window, queries) for window in self.windows}
        call = CausalCall(turn=turn, masks=masks, memory=self.memory)
        for layer in self.layers:
            x_TD = layer(x_TD, layout, weights=False, call=call)
        assert model.final_norm is not None
        x_TD = model.final_norm(x_TD)
        self.past += queries
        logits_B1V: Tensor = self.head.decoder(layout.grid(x_TD)[:, -1:], model.embed.tokens.weight)
        return logits_B1V[:, -1]

    def _mask(self, window: int | None, queries: int) -> Tensor | None:
        """Which keys these queries may look at, as `causal_mask` says."""
        first = 0 if window is None or self.past == 0 else max(self.past - window + 1, 0)
        keys = self.past + queries - first
        if queries == 1:
            return self._mask_of_one(window, first, keys)
        return causal_mask(
            None if self.real_BS is None else self.real_BS[:, : self.past + queries],
            batch=self.batch,
            queries=queries,
            keys=keys,
            window=window,
            device=self.model.embed.tokens.weight.device,
            past=self.past,
            first_key=first,
            always=self.always,
        )

    def _mask_of_one(self, window: int | None, first: int, keys: int) -> Tensor | None:
        """The same for one query, without computing anything: it sees all real keys that are left."""
        if self.real_BS is not None:
            return self.real_BS[:, None, None, first : first + keys]
        if self.always or (window is not None and keys >= window):
            ones = torch.ones((), dtype=torch.bool, device=self.model.embed.tokens.weight.device)
            return ones.expand(self.batch, 1, 1, keys)
        return None
