"""A text continued token by token: the same layers, with a cache of the keys and values before."""

from __future__ import annotations

import torch
from torch import Tensor

from biject.config.layers import MaskKind
from biject.nn.batch import Batch, HeadRequest
from biject.nn.kernels import kernel
from biject.nn.kv_cache import KVCache
from biject.nn.layout import Padded
from biject.nn.masks import attention_mask
from biject.nn.plan import BatchPlan
from biject.nn.positions import rope_rows
from biject.nn.transformer import Transformer


class Decoding:
    """One batch of texts that grow together. Each call takes the next columns, gives the logits after.

    Args:
        model: a decoder with the head of a causal LM.
        batch: how many texts.
        length: the most columns that are ever given, padding too.
        real_BS: (B, length), True where a column holds a token; None if all do.
        whole: the cache keeps what no window sees any more, too.

    In HF's shapes: the first call sees all columns of the prompt, the head its last one only, and masks are
    left out where HF leaves them out, as the bits of a product depend on them.
    """

    def __init__(
        self,
        model: Transformer,
        *,
        batch: int,
        length: int,
        real_BS: Tensor | None = None,
        whole: bool = False,
    ) -> None:
        output = model.head.output_matrix
        assert output is not None
        self.model, self.output, self.batch, self.past = model, output, batch, 0
        self.device, self.real_BS = model.device, real_BS
        specs = model.attention_specs
        self.always = any(spec.upcast for spec in specs)
        self.kinds = frozenset(spec.mask_kind for spec in specs)
        attentions = model.attentions
        operations = {attention.operation for attention in attentions}
        self.kernels = {operation: kernel(operation, self.device, "fast") for operation in operations}
        self.cache = KVCache(
            attentions, batch=batch, length=length, dtype=model.dtype, device=self.device, whole=whole
        )

    def __call__(self, ids_BL: Tensor, positions_BL: Tensor) -> Tensor:
        """Logits of the token after the last of these columns: (B, L), (B, L) → (B, V)."""
        queries = ids_BL.shape[1]
        layout = Padded(batch=self.batch, length=queries, mask_BL=None)
        batch = Batch(input_ids=ids_BL, position_ids=positions_BL)
        plan = BatchPlan(
            batch=batch,
            request=HeadRequest(),
            layout=layout,
            kernels=self.kernels,
            masks={kind: (self._mask(kind, queries),) for kind in self.kinds},
            rope=rope_rows(self.model, batch, layout),
            cache=self.cache,
            total=layout.num_rows,
        )
        x_TD = self.model.run_layers(self.model.embed_rows(plan), plan)
        self.past += queries
        logits_B1V: Tensor = self.output(layout.grid(x_TD)[:, -1:])
        return logits_B1V[:, -1]

    def _mask(self, kind: MaskKind, queries: int) -> Tensor | None:
        """Which keys these queries may look at, as `attention_mask` says."""
        first = 0 if kind.window is None or self.past == 0 else max(self.past - kind.window + 1, 0)
        keys = self.past + queries - first
        if queries == 1:
            return self._mask_of_one(kind.window, first, keys)
        return attention_mask(
            kind,
            None if self.real_BS is None else self.real_BS[:, : self.past + queries],
            batch=self.batch,
            queries=queries,
            keys=keys,
            device=self.device,
            past=self.past,
            first_key=first,
            always=self.always,
        )

    def _mask_of_one(self, window: int | None, first: int, keys: int) -> Tensor | None:
        """The same for one query, without computing anything: it sees all real keys that are left."""
        if self.real_BS is not None:
            return self.real_BS[:, None, None, first : first + keys]
        if self.always or (window is not None and keys >= window):
            ones = torch.ones((), dtype=torch.bool, device=self.device)
            return ones.expand(self.batch, 1, 1, keys)
        return None
