"""Inference and training of encoders, against Hugging Face in the given order and at its best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from biject.bench.measure import Limits, Measured, Side, against_last, in_turns, peak_bytes
from biject.bench.sides import models
from biject.bench.texts import POOL, Batch, given_order, grouped, lengths, made, padded_over_real
from biject.config.flops import TextBatch, forward_flops, training_flops
from biject.nn.kernels import Numerics

PEERS = ("given order", "length-grouped", "compiled")
"""Dynamic padding in the given order; batches of one length out of 800 texts; these under torch.compile."""


FORMS: tuple[Numerics, ...] = ("exact", "fast")


def encoder_cells(
    shape: str,
    dtype: str,
    lengths_of: str,
    *,
    peers: tuple[str, ...],
    batches: int,
    repeats: int,
    limits: Limits,
) -> Iterator[Measured]:
    """Inference and training steps beside each peer: AdamW (fused), dropout, in turns, on the same texts."""
    device = str(limits.device)
    with models(shape, getattr(torch, dtype), forms=FORMS, device=device) as (ours, theirs):
        draw = torch.Generator().manual_seed(0)
        pool = lengths(lengths_of, POOL, draw)
        own = given_order(pool, batches)
        config = ours[0].config
        mine = made(own, draw, high=config.vocab_size, device=device)
        for peer in peers:
            cut = own if peer == "given order" else grouped(pool, batches)
            other = made(cut, draw, high=config.vocab_size, device=device)
            rival = torch.compile(theirs, dynamic=True) if peer == "compiled" else theirs
            for work, make in (("inference", inference), ("training", training)):
                sides = [*(make(model, mine) for model in ours), make(rival, other)]
                limits.look(getattr(torch, dtype))
                seconds = against_last(in_turns(sides, repeats))
                count = forward_flops if work == "inference" else training_flops
                flops = count(config, TextBatch(lengths=[n for batch in own for n in batch], multiple=1))
                *peaks, last = map(peak_bytes, sides)
                for form, pairs, peak in zip(FORMS, seconds, peaks, strict=True):
                    found = Measured(
                        name=f"{work}, {lengths_of}, {form}", model=shape, dtype=dtype,
                        threads=torch.get_num_threads(), peer=peer, seconds=pairs,
                        padded_over_real=padded_over_real(cut), peak_bytes=(peak, last),
                    )  # fmt: skip
                    per_token = flops / sum(map(sum, own))
                    used = [per_token * rate for rate in found.tokens_per_second]
                    found.more["flops_per_second"] = {"ours": used[0], "peer": used[1]}
                    yield found


def _tokens(batches: list[Batch]) -> int:
    return sum(int(batch["attention_mask"].sum()) for batch in batches)


def inference(model: Any, batches: list[Batch]) -> Side:
    """Forward passes without gradients."""
    tokens = _tokens(batches)

    def run() -> int:
        model.eval()
        with torch.inference_mode():
            for batch in batches:
                model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        return tokens

    return run


def training(model: Any, batches: list[Batch]) -> Side:
    """Whole steps: forward, backward, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    tokens = _tokens(batches)

    def run() -> int:
        model.train()
        for batch in batches:
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return tokens

    return run
