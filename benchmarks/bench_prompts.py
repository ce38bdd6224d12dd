"""Prompts of mixed lengths, and the turns of a conversation, against transformers' `generate`, in turns.

A batch of 16 prompts padded on the left (lengths of movie snippets; long-tailed to 512), one new token; and
a conversation of six turns, in which the user says 40 tokens and hears 24: ours with a `Cache`, transformers
with its own cache, and transformers reading the whole conversation anew.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from biject.bench.measure import against_last, in_turns
from biject.bench.sides import models
from biject.bench.texts import given_order, lengths, padded_over_real

TURNS, SAID, HEARD = 6, 40, 24
FORMS: dict[str, dict[str, Any]] = {"exact": {}, "fast": {"numerics": "fast"}}


def line(name: str, pairs: tuple[tuple[float, float], ...], more: str = "") -> None:
    """The median ratio with its range."""
    ratios = [theirs / ours for ours, theirs in pairs]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
    print(f"{name}: ratio {spread}{more}", flush=True)


def mixed(shape: str, dtype: str, which: str, pairs: int) -> None:
    """One batch of prompts: tokens are the same, and how much longer transformers takes."""
    with models(shape, getattr(torch, dtype)) as ((ours,), theirs):
        draw = torch.Generator().manual_seed(0)
        (batch,) = given_order(lengths(which, 16, draw), 1)
        longest = max(batch)
        ids = torch.randint(1000, 50000, (len(batch), longest), generator=draw)
        mask = (torch.arange(longest) >= longest - torch.tensor(batch)[:, None]).long()
        few = {"attention_mask": mask, "max_new_tokens": 1, "pad_token_id": 0}

        def run(model: Any, **form: Any) -> int:
            model.generate(ids, **few, **form)
            return 1

        hf = theirs.generate(ids, **few).tolist()
        for name, form in FORMS.items():
            same = ours.generate(ids, **few, **form).tolist() == hf
            sides = [lambda form=form: run(ours, **form), lambda: run(theirs)]
            (found,) = against_last(in_turns(sides, pairs))
            more = (
                f", padded/real {padded_over_real([batch]):.2f}, {'same tokens' if same else 'other tokens'}"
            )
            line(f"{shape} {dtype} prompts, {which}, {name}", found, more)


def talk(model: Any, text: torch.Tensor, cache: Any, **form: Any) -> int:
    """All turns; the ids of what the user says stand in `text`, (turns, tokens)."""
    ids = text[:0].reshape(1, 0)
    for said in text:
        ids = torch.cat([ids, said[None]], dim=1)
        given = {} if cache is None else {"past_key_values": cache}
        ids = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=HEARD, min_new_tokens=HEARD,
            pad_token_id=0, **given, **form,
        )  # fmt: skip
    return TURNS


def turns(shape: str, dtype: str, pairs: int) -> None:
    """A conversation with and without a cache."""
    import transformers

    import biject

    with models(shape, getattr(torch, dtype)) as ((ours,), theirs):
        text = torch.randint(1000, 50000, (TURNS, SAID), generator=torch.Generator().manual_seed(1))
        for name, form in FORMS.items():
            for peer, make in (("its cache", transformers.DynamicCache), ("no cache kept", lambda: None)):
                sides = [
                    lambda form=form: talk(ours, text, biject.Cache(), **form),
                    lambda make=make: talk(theirs, text, make()),
                ]
                (found,) = against_last(in_turns(sides, pairs))
                line(f"{shape} {dtype} conversation, {name}, transformers with {peer}", found)


def main() -> int:
    """Print a line a cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="gpt2")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--works", nargs="+", default=["snippets", "long-tailed", "turns"])
    given = parser.parse_args()
    for what in given.works:
        if what == "turns":
            turns(given.model, given.dtype, given.pairs)
        else:
            mixed(given.model, given.dtype, what, given.pairs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
