"""A text continued token by token: the same layers, with a cache of the keys and values before."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from biject.config.layers import MaskKind
from biject.nn.batch import Batch, HeadRequest
from biject.nn.kernels import Numerics, kernel
from biject.nn.kv_cache import KVCache
from biject.nn.last_column import LastColumn
from biject.nn.layout import Padded
from biject.nn.masks import attention_mask
from biject.nn.mlp import activations_in_one_pass
from biject.nn.plan import BatchPlan
from biject.nn.positions import rope_rows
from biject.nn.prompt import PackedPrompt, masks, packed_prompt
from biject.nn.transformer import Transformer


class Decoding:
    """One batch of texts that grow together. Each call takes the next columns, gives the logits after.

    Args:
        model: a decoder with the head of a causal LM.
        batch: how many texts.
        length: the most columns that are ever given, padding too.
        real_BS: (B, length), True where a column holds a token; None if all do.
        whole: the cache keeps what no window sees any more, too.
        numerics: `fast`: the prompt's rows need not have HF's bits.
        cache: one that holds the first columns of these texts already; a new one where left out.
        past: how many columns it holds.

    In HF's shapes: the first call sees all columns of the prompt, the head its last one only, and masks are
    left out where HF leaves them out, as the bits of a product depend on them. The padding of a prompt is not
    computed (`nn/prompt.py`).
    """

    def __init__(
        self,
        model: Transformer,
        *,
        batch: int,
        length: int,
        real_BS: Tensor | None = None,
        whole: bool = False,
        numerics: Numerics = "exact",
        cache: KVCache | None = None,
        past: int = 0,
    ) -> None:
        assert model.head.output_matrix is not None
        self.model, self.batch, self.past = model, batch, past
        self.device, self.real_BS, self.numerics = model.device, real_BS, numerics
        specs = model.attention_specs
        self.always = any(spec.by_steps for spec in specs)
        self.kinds = frozenset(spec.mask_kind for spec in specs)
        attentions = model.attentions
        operations = {attention.operation for attention in attentions}
        self.kernels = {operation: kernel(operation, self.device, "fast") for operation in operations}
        self.cache = cache or KVCache(
            attentions, batch=batch, length=length, dtype=model.dtype, device=self.device, whole=whole
        )

    def __call__(self, ids_BL: Tensor, positions_BL: Tensor) -> Tensor:
        """Logits of the token after the last of these columns: (B, L), (B, L) → (B, V)."""
        queries = ids_BL.shape[1]
        if self.past == 0 and queries > 1 and self.real_BS is not None:
            prompt = packed_prompt(self.model, self.real_BS[:, :queries].cpu(), self.numerics)
            if prompt is not None:
                return self._prompt(prompt, ids_BL, positions_BL)
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
        if self.numerics == "fast" and self.past == 0 and queries > 1 and self.real_BS is None:
            return self._whole_prompt(plan)
        x_TD = self.model.run_layers(self.model.embed_rows(plan), plan)
        self.past += queries
        logits_B1V: Tensor = self.model.head.output(layout.grid(x_TD)[:, -1:])
        return logits_B1V[:, -1]

    def _whole_prompt(self, plan: BatchPlan) -> Tensor:
        """The same where bits need not be HF's and nothing is padding: the last layer computes one column."""
        length = plan.layout.length
        last = LastColumn(batch=self.batch, length=length, mask_BL=None, device=self.device)
        masks = {
            kind: (
                attention_mask(
                    kind, None, batch=self.batch, queries=1, keys=length,
                    device=self.device, past=length - 1, always=self.always,
                ),
            )
            for kind in self.kinds
        }  # fmt: skip
        plan = replace(plan, own_keys=True, final=replace(plan, layout=last, masks=masks, narrowed=True))
        with activations_in_one_pass():
            x_BD = self.model.run_layers(self.model.embed_rows(plan), plan)
        self.past += length
        logits_BV: Tensor = self.model.head.output(x_BD)
        return logits_BV

    def _prompt(self, prompt: PackedPrompt, ids_BL: Tensor, positions_BL: Tensor) -> Tensor:
        """The same for all columns of a prompt, without its padding."""
        batch, layout = Batch(input_ids=ids_BL, position_ids=positions_BL), prompt.layout
        plan = BatchPlan(
            batch=batch,
            request=HeadRequest(),
            layout=layout,
            kernels=self.kernels,
            masks={kind: masks(kind, layout) for kind in self.kinds},
            rope=rope_rows(self.model, batch, layout),
            cache=prompt.cache(self.cache),
            total=layout.batch * layout.length,
        )
        last = {kind: masks(kind, prompt.last) for kind in self.kinds}
        plan = replace(plan, final=replace(plan, layout=prompt.last, masks=last, narrowed=True))
        x_TD = self.model.run_layers(self.model.embed_rows(plan), plan)
        self.past += layout.length
        # As far apart in memory as the rows of HF's grid: bits of a product can depend on that, too.
        strides = (layout.length * x_TD.shape[1], x_TD.shape[1], 1)
        last_B1D = x_TD.new_empty_strided((layout.batch, 1, x_TD.shape[1]), strides)
        logits_B1V: Tensor = self.model.head.output(last_B1D.copy_(x_TD[: layout.batch, None]))
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
