"""The cache of generation against plain concatenation, and the masks of single queries against the rule."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from biject.config.layers import AttentionSpec, MaskKind
from biject.nn.decode import Decoding
from biject.nn.kv_cache import KVCache
from biject.nn.masks import attention_mask

GROUPS, WIDTH = 2, 4


class Layer:
    """What the cache asks of an attention."""

    rope, operation = None, "causal attention"

    def __init__(self, window: int | None) -> None:
        self.spec = AttentionSpec(
            num_heads=GROUPS,
            num_key_value_heads=GROUPS,
            head_dim=WIDTH,
            scale=1.0,
            causal=True,
            window=window,
        )


def cache(window: int | None, length: int, batch: int = 3) -> tuple[KVCache, Layer]:
    layer, cpu = Layer(window), torch.device("cpu")
    return KVCache([layer], batch=batch, length=length, dtype=torch.float32, device=cpu), layer


@pytest.mark.parametrize("window", [None, 1, 2, 5, 7, 40])
@pytest.mark.parametrize("calls", [[1] * 30, [12] + [1] * 18, [30], [4, 3, 9, 1, 1, 1, 11], [2, 25, 1, 1, 1]])
def test_as_concatenation(window: int | None, calls: list[int]) -> None:
    found, layer = cache(window, sum(calls))
    kept = torch.zeros(2, 3, GROUPS, 0, WIDTH)
    for length in calls:
        new = torch.randn(2, 3, GROUPS, length, WIDTH)
        whole = torch.cat([kept, new], dim=3)
        keys, values = found.update(layer, new[0], new[1])
        assert torch.equal(keys, whole[0])
        assert torch.equal(values, whole[1])
        kept = whole if window is None else whole[:, :, :, max(0, whole.shape[3] - window + 1) :]


def test_bytes_are_those_of_the_window() -> None:
    one = 2 * 3 * GROUPS * WIDTH * 4
    assert cache(None, 100)[0].num_bytes == 100 * one
    assert cache(10, 100)[0].num_bytes == 20 * one
    assert cache(10, 15)[0].num_bytes == 15 * one


def test_a_full_cache_says_so() -> None:
    full, layer = cache(None, 3)
    with pytest.raises(IndexError, match="do not fit"):
        full.update(layer, *torch.zeros(2, 3, GROUPS, 4, WIDTH))


@pytest.mark.parametrize("window", [None, 1, 3, 6])
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("always", [False, True])
def test_the_mask_of_one_query_is_the_rules(window: int | None, padding: int, always: bool) -> None:
    real = None
    if padding:
        real = torch.ones(2, 10, dtype=torch.bool)
        real[0, :padding] = False
    for past in range(1, 10):
        self = SimpleNamespace(
            past=past, real_BS=real, always=always, batch=2, device=torch.device("cpu"),
        )  # fmt: skip
        first = 0 if window is None else max(past - window + 1, 0)
        keys = past + 1 - first
        rule = attention_mask(
            MaskKind(causal=True, window=window, mask_queries=False),
            None if real is None else real[:, : past + 1], batch=2, queries=1, keys=keys,
            device=torch.device("cpu"), past=past, first_key=first, always=always,
        )  # fmt: skip
        found = Decoding._mask_of_one(self, window, first, keys)
        assert (found is None) == (rule is None)
        assert rule is None or torch.equal(found, rule)
